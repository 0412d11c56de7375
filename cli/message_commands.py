"""`tollwire message`: what became of messages."""

from typing import Any
from uuid import UUID

import click

from api.read_schemas import MessageDetail, MessagePage
from cli.api_client import Api
from cli.api_command import api_command
from cli.listing import collect, limit_option
from cli.message_screen import print_message
from cli.output import Output, amount_text, short_time_text, state_text
from cli.proof import STATES
from cli.target import KeyFile
from cli.words import NUMBER, TIME


@click.group()
def message() -> None:
    """Look at messages: one, or many."""


@message.command(epilog="Example: tollwire message show 01a1fc6a-9d6b-7485-9fcf-63dce17cfbeb")
@click.argument("message_id", metavar="ID", type=click.UUID)
@api_command(KeyFile.DEMO)
async def show(api: Api, output: Output, message_id: UUID) -> None:
    """Show a message with its hold, its attempts and its events."""
    answer = await api.get(f"/v1/messages/{message_id}")
    if output.as_json:
        output.document(answer.plain())
    else:
        print_message(output, answer.read(MessageDetail))


@message.command(
    "list", epilog="Example: tollwire message list --status UNDELIVERED --since 2026-11-21T00:00:00Z"
)
@click.option("--status", type=click.Choice(sorted(STATES)), help="In this state only.")
@click.option("--to", type=NUMBER, metavar="NUMBER", help="To this number only.")
@click.option("--client-ref", metavar="REF", help="With this reference of yours only.")
@click.option(
    "--since", type=TIME, metavar="TIME", help="Accepted at this time or later, as 2026-11-21T10:00:00Z."
)
@click.option("--until", type=TIME, metavar="TIME", help="Accepted before this time.")
@limit_option
@api_command(KeyFile.DEMO)
async def list_(api: Api, output: Output, limit: int, **query: Any) -> None:
    """List messages, newest first."""
    found, has_more = await collect(
        api, "/v1/messages", query, MessagePage, lambda page: page.messages, limit=limit
    )
    if output.as_json:
        output.document({"messages": found, "has_more": has_more})
        return
    rows = [
        (
            str(one.id), short_time_text(one.created_at), one.to, str(one.segments),
            amount_text(one.price.amount), state_text(one.status), one.error or "",
        )
        for one in found
    ]  # fmt: skip
    currency = found[0].price.currency if found else ""
    output.table(
        ["id", "accepted", "to", ">segments", f">price {currency}".rstrip(), "status", "~error"], rows
    )
    output.more(has_more)
