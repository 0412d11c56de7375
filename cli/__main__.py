"""`tollwire`, also `python -m cli`: one command for everything.

Each subcommand's module is imported when it is asked for: `tollwire status` must not wait for what
`tollwire send` needs.
"""

import difflib
from collections.abc import Mapping
from importlib import import_module

import click

from cli.streams import open_streams

# Name of the subcommand → "module:object", in the order of `tollwire --help`.
COMMANDS: Mapping[str, str] = {
    "up": "cli.up:up",
    "status": "cli.status:status",
    "doctor": "cli.doctor:doctor",
    "down": "cli.down:down",
    "send": "cli.send:send",
    "message": "cli.message_commands:message",
    "listen": "cli.listen:listen",
    "client": "cli.client_commands:client",
    "key": "cli.key_commands:key",
    "credit": "cli.credit_commands:credit",
    "rate": "cli.rate_commands:rate",
    "carrier": "cli.carrier_commands:carrier",
    "dlq": "cli.dlq_commands:dlq",
    "ledger": "cli.ledger:ledger",
    "pii": "cli.pii:pii",
    "events": "cli.events:events",
    "recover": "cli.recover:recover",
    "keyring": "cli.keyring:keyring",
    "partitions": "cli.partitions:partitions",
    "migrate": "cli.migrate_command:migrate",
    "bootstrap": "cli.bootstrap_command:bootstrap",
    "openapi": "cli.openapi_command:openapi",
}


class Commands(click.Group):
    """The subcommands of COMMANDS."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in the order of the table: the first one is what a newcomer needs first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import the subcommand, or return None when there is none of that name."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command = getattr(import_module(module), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{place} is not a command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand; for a name that is nearly right, say which one is."""
        close = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if args[0] not in COMMANDS and close:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {close[0]!r}?")
        return super().resolve_command(ctx, args)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tollwire", prog_name="tollwire")
def tollwire() -> None:
    """An SMS gateway with a ledger that cannot lose a cent."""


def main() -> None:
    """The console script."""
    open_streams()
    tollwire(prog_name="tollwire")


if __name__ == "__main__":
    main()
