"""``python -m tomopipe``."""

from tomopipe.cli import app

app()
