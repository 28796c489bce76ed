"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from tomopipe.campaign.files import CONFIG

Directory = Annotated[
    Path,
    typer.Argument(help="The campaign folder.", show_default="this folder", metavar="CAMPAIGN"),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file.", show_default="CAMPAIGN/config.yaml"),
]


def config_path(directory: Path, config: Path | None) -> Path:
    """Return the absolute path of a campaign's configuration."""
    return (config or directory / CONFIG).absolute()
