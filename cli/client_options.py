"""The settings of a client as options, the same for making and for changing one."""

import functools
from collections.abc import Callable
from typing import Any, Final

import click

ANY: Final = "any"

_SETTINGS = (
    click.option(
        "--requests-per-minute", type=click.IntRange(min=1), metavar="N", help="The contract's rate limit."
    ),
    click.option(
        "--requests-burst", type=click.IntRange(min=1), metavar="N", help="Requests that may come at once."
    ),
    click.option(
        "--messages-per-second",
        type=click.IntRange(min=0),
        metavar="N",
        help="Pacing; 0: as fast as carriers take it.",
    ),
    click.option(
        "--charge",
        type=click.Choice(["delivered", "submitted"]),
        help="Captured by the receipt, or when the carrier accepts.",
    ),
    click.option(
        "--partial-charge/--no-partial-charge",
        default=None,
        help="Charge a long message that arrived in part.",
    ),
    click.option(
        "--waive-late-capture/--no-waive-late-capture",
        default=None,
        help="Take nothing for receipts after the hold's end.",
    ),
    click.option(
        "--default-sender", metavar="SENDER", help="Used when a message names none; one of those allowed."
    ),
    click.option(
        "--allow-sender",
        "allowed_senders",
        multiple=True,
        metavar="SENDER",
        help=f"May be repeated; {ANY}: every sender. The first becomes the default, if that is none of them.",
    ),
    click.option(
        "--allow-country",
        "allowed_countries",
        multiple=True,
        metavar="CC",
        help=f"As DE; may be repeated; {ANY}: all with a rate.",
    ),
    click.option(
        "--allow-callback-host",
        "allowed_callback_hosts",
        multiple=True,
        metavar="HOST",
        help="For a message's own callback_url; may be repeated.",
    ),
    click.option(
        "--text-retention-days", type=click.IntRange(0, 30), metavar="N", help="0: gone at the final state."
    ),
    click.option("--credit-limit", metavar="AMOUNT", help="How far below zero the balance may go."),
    click.option("--reason", help="Why; stands in the audit trail."),
)


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a client's settings."""
    return functools.reduce(lambda made, option: option(made), reversed(_SETTINGS), command)
