"""``python -m tomopipe``."""

from tomopipe.cli import app

if __name__ == "__main__":
    app()
