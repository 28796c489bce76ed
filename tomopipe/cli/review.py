"""`tomopipe review`: the page for decisions about scans."""

from pathlib import Path
from typing import Annotated

import typer

from tomopipe.campaign.files import CONFIG
from tomopipe.cli.options import ConfigFile, Directory


def review(
    directory: Directory = Path("."),
    config: ConfigFile = None,
    port: Annotated[
        int, typer.Option(help="Port of localhost.", show_default="a free one", min=0, max=65535)
    ] = 0,
    socket: Annotated[
        Path | None, typer.Option(help="A Unix socket instead of a port: nobody else can open it.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Name of a proxy that shows the page; localhost always may."),
    ] = None,
    allow_origin: Annotated[
        str,
        typer.Option(
            help="Origin of another page (such as a neuroglancer) that may read OME-Zarr volumes."
        ),
    ] = "",
    prefix: Annotated[
        str, typer.Option(help="Path at which a proxy shows the page: /user/me/proxy/8765.")
    ] = "",
) -> None:
    """Review the scans in a browser, those that need a decision first.

    Prints a link; every decision goes into the campaign table at once, and the next `tomopipe run`
    redoes exactly that. Listens on this machine alone: from elsewhere use
    `ssh -L 8765:localhost:8765 HOST`.

    Examples: `tomopipe review mycampaign --port 8765`,
    `tomopipe review mycampaign --socket ~/.review.sock`
    """
    from tomopipe.review.serve import serve
    from tomopipe.review.store import Store

    store = Store(directory, (config or directory / CONFIG).absolute())
    store.prepare()
    serve(
        store,
        port=port,
        socket_path=socket.expanduser() if socket else None,
        allow_hosts=allow_host or (),
        allow_origin=allow_origin,
        prefix=prefix,
        tell=typer.echo,
    )
