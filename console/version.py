"""`--version`, the same for every command line."""

from importlib.metadata import version
from typing import Annotated

import typer


def add_version(app: typer.Typer, prog: str) -> None:
    """`prog --version` prints both, and ends."""

    def tell(asked: bool) -> None:  # noqa: FBT001 - how typer calls it
        if asked:
            typer.echo(f"{prog} {version('gloam')}")
            raise typer.Exit

    @app.callback()
    def _root(
        _version: Annotated[  # noqa: FBT002 - typer declares options as defaults
            bool, typer.Option("--version", callback=tell, is_eager=True, help="Print the version and exit.")
        ] = False,
    ) -> None:
        pass
