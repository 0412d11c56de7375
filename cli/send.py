"""`tollwire send`: one message from the command line, or a file of them."""

import os
import secrets
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from api.read_schemas import MessageDetail
from api.schemas import VALID_FOR_MAX_SECONDS, VALID_FOR_MIN_SECONDS, MessageAccepted
from cli.api_client import Api, Told
from cli.api_command import api_command
from cli.failures import Exit, perhaps_done
from cli.follow import follow
from cli.home import Home
from cli.message_screen import print_message
from cli.output import Output, amount_text, state_text
from cli.proof import DELIVERED, FINAL_STATES
from cli.send_batches import BATCH_DEFAULT, BATCH_MAX
from cli.send_file import FileSend, send_file
from cli.target import KeyFile
from cli.words import PRICE, TIME, not_empty

KEY_BYTES = 16
EPILOG = """\b
Examples:
  tollwire send +4915112345678 "Your code is 123456" --from ACME --wait
  tollwire send --csv messages.csv --lane bulk --wait
  tollwire send --csv messages.csv --run again   # the same file once more

Exit codes: 0 accepted (with --wait: delivered, or of a file: all final and the books right), 1 not so,
2 wrong use or file, 3 no API answers, 4 the key is not allowed to. Rejected rows of a file are reported;
they make it 1 only with --strict, or when no row is accepted.
"""


@click.command(epilog=EPILOG)
@click.argument("to", required=False)
@click.argument("text", required=False)
@click.option(
    "--csv",
    "csv_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Send a file with the columns to,text.",
)
@click.option("--from", "sender", metavar="SENDER", help="The sender; else the client's default one.")
@click.option(
    "--lane",
    type=click.Choice(["express", "normal", "bulk"]),
    help="express for one-time passwords, bulk for campaigns.",
)
@click.option("--send-at", type=TIME, metavar="TIME", help="Not before, as 2026-12-01T09:00:00+01:00.")
@click.option(
    "--valid-for",
    "valid_for_seconds",
    type=click.IntRange(VALID_FOR_MIN_SECONDS, VALID_FOR_MAX_SECONDS),
    metavar="SECONDS",
    help="Expires after so long, uncharged.",
)
@click.option("--max-price", type=PRICE, metavar="AMOUNT", help="Refuse a message that costs more, as 0.10.")
@click.option("--client-ref", metavar="REF", help="Your own reference of a single message.")
@click.option(
    "--idempotency-key",
    metavar="KEY",
    callback=not_empty,
    help="Of a single message: the same key again sends nothing again.",
)
@click.option("--wait", "waits", is_flag=True, help="Follow to the final state; prove what was charged.")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=0),
    default=0,
    metavar="SECONDS",
    help="With --wait: give up after so long. 0: never.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, BATCH_MAX),
    default=BATCH_DEFAULT,
    show_default=True,
    help="Messages of a file in one request.",
)
@click.option(
    "--run",
    default="",
    metavar="NAME",
    callback=not_empty,
    help="Another name sends the same file once more.",
)
@click.option(
    "--rejected",
    "rejected_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the rejected rows of a file to this CSV, over what it holds.",
)
@click.option(
    "--strict", "is_strict", is_flag=True, help="Exit with 1 when a single row of a file is rejected."
)
@api_command(KeyFile.DEMO)
async def send(
    api: Api, output: Output, to: str | None, text: str | None, csv_path: Path | None, **given: Any
) -> int:
    """Send one message, or a CSV file of them.

    A file is sent once: interrupted and started again, it goes on where it stopped. Limits and a busy or
    absent API are waited for, 10 seconds for one message, 10 minutes for a batch of a file. What is rejected
    is reported with the reason and the lines.
    """
    common = ("sender", "lane", "send_at", "valid_for_seconds", "max_price")
    options = {
        "from" if name == "sender" else name: given[name] for name in common if given[name] is not None
    }
    if not given["waits"]:
        _refuse(("timeout_seconds",), "says how long --wait waits, and does not go without it")
    if csv_path is not None:
        _refuse(("client_ref", "idempotency_key"), "is for a single message, not for a file")
        if to is not None:
            raise click.UsageError("Give TO and TEXT, or --csv FILE, not both.")
        names = ("batch_size", "run", "waits", "timeout_seconds", "rejected_path", "is_strict")
        asked = FileSend(csv_path, options, **{name: given[name] for name in names})
        return await send_file(api, output, Home.of(os.environ), asked)
    _refuse(("run", "rejected_path", "is_strict", "batch_size"), "is for a file, with --csv")
    if to is None or text is None:
        raise click.UsageError("Give TO and TEXT, or --csv FILE.")
    if given["client_ref"] is not None:
        options["client_ref"] = given["client_ref"]
    key = given["idempotency_key"] or f"cli-{secrets.token_hex(KEY_BYTES)}"
    body = {**options, "to": to, "text": text}
    return await _send_one(api, output, body, key, given["timeout_seconds"] if given["waits"] else None)


def _refuse(names: tuple[str, ...], why: str) -> None:
    """Refuse options that were typed, also with the value that they have without."""
    ctx = click.get_current_context()
    for option in ctx.command.params:
        name = option.name or ""
        if name in names and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} {why}.")


async def _send_one(
    api: Api, output: Output, body: dict[str, Any], key: str, timeout_seconds: float | None
) -> int:
    """Send a message; follow it unless ``timeout_seconds`` is None."""
    api.outlives_restarts, api.tell = True, _telling(api, output)
    again = f"Run it again with --idempotency-key {key}: then it is sent once."
    with perhaps_done(f"It may have been sent. {again}", idempotency_key=key):
        answer = await api.request("POST", "/v1/messages", body, idempotency_key=key)
        accepted = answer.read(MessageAccepted)
    if timeout_seconds is None:
        if output.as_json:
            output.document(answer.plain())
        else:
            _print_accepted(output, accepted, is_replay=answer.is_replay)
        return Exit.DONE
    message_id = str(accepted.id)
    shows = f"`tollwire message show {message_id}` tells what became of it."
    with perhaps_done(f"The message is accepted. {shows}", is_sure=True, message_id=message_id):
        states = await follow(api, [message_id], timeout_seconds=timeout_seconds, on_look=lambda _: None)
        found = await api.get(f"/v1/messages/{message_id}")
    if output.as_json:
        output.document(found.plain())
    else:
        print_message(output, found.read(MessageDetail))
    if states[message_id] not in FINAL_STATES:
        output.gap()
        output.note(
            f"Not final within {timeout_seconds:g} s, and no longer waited for: it goes on by itself."
        )
        output.note(shows)
    return Exit.DONE if states[message_id] == DELIVERED else Exit.FAILED


def _telling(api: Api, output: Output) -> Told:
    """Say once that it waits, and for what."""

    def tell(reason: str, _: float) -> None:
        output.note(f"{reason.rstrip('.')}; waiting for it, {api.patience_seconds:g} s at most.")
        api.tell = lambda *_: None

    return tell


def _print_accepted(output: Output, message: MessageAccepted, *, is_replay: bool) -> None:
    output.details(
        [
            ("Id", str(message.id)),
            ("Status", state_text(message.status)),
            ("To", message.to),
            ("From", message.sender),
            ("Segments", f"{message.segments} x {message.encoding}"),
            ("Price", f"{amount_text(message.price.amount, message.price.currency)}, held until delivered"),
            ("Available", amount_text(message.balance.available, message.balance.currency)),
            ("Note", "sent before under this key; nothing was sent now" if is_replay else None),
        ]
    )
    output.gap()
    output.note(f"`tollwire message show {message.id}` tells what became of it.")
