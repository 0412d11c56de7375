"""`tollwire openapi`: the description of the API, as /openapi.json serves it."""

from pathlib import Path

import click
import msgspec


@click.command(epilog="Example: tollwire openapi --output openapi.json")
@click.option(
    "--output",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file; else to stdout.",
)
def openapi(path: Path | None) -> None:
    """Print the OpenAPI 3.1 document of the API. Needs nothing that runs."""
    from api.openapi import document
    from api.operations import OPERATIONS

    text = msgspec.json.format(msgspec.json.encode(document(OPERATIONS)), indent=2)
    if path is None:
        click.echo(text)
        return
    try:
        path.write_bytes(text + b"\n")
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None
