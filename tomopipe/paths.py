"""Where the workflow lies, beside the package in a checkout, inside it when installed; folders."""

from pathlib import Path

from tomopipe.errors import TomopipeError


def workflow_folder() -> Path:
    """Return the folder that holds Snakefile, workflow/ and profiles/."""
    package = Path(__file__).parent
    for folder in (package.parent, package / "_workflow"):
        if (folder / "Snakefile").is_file() and (folder / "workflow").is_dir():
            return folder
    raise TomopipeError(f"{package}: no Snakefile beside or inside the package. Install it again.")


def existing_folder(path: Path) -> Path:
    """Return a folder, or the nearest above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())
