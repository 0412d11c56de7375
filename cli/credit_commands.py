"""`tollwire credit`: what a client can spend."""

import secrets
from typing import Any

import click

from api.admin_schemas import ClientShown
from api.ledger_schemas import AuditPage, CreditPosted
from api.read_schemas import Balance
from cli.api_client import Api
from cli.api_command import api_command
from cli.failures import Exit, Failure, perhaps_done
from cli.listing import SHOWN_DEFAULT
from cli.output import Output, amount_text, count_text, short_time_text
from cli.target import KeyFile
from cli.words import AboveZero, not_empty, part
from shared.domain.money import MoneyFormatError, format_micros, parse_micros

CLIENTS = "/admin/v1/clients"
REFERENCE_BYTES = 8
# An adjustment may be negative: -5.00 is no option.
NEGATIVE_AMOUNTS = {"ignore_unknown_options": True}

reference_option = click.option(
    "--reference",
    metavar="REF",
    callback=not_empty,
    help="As the invoice's number: the same again posts nothing again.",
)
reason_option = click.option("--reason", help="Why; stands in the journal and in the audit trail.")


@click.group()
def credit() -> None:
    """Top up accounts, and see what is in them."""


@credit.command(
    cls=AboveZero,
    below_zero="A top-up is above zero; `tollwire credit adjust` takes credit away.",
    epilog="Example: tollwire credit add acme 250.00 --reference invoice-17",
)
@click.argument("client")
@click.argument("amount")
@reference_option
@reason_option
@api_command(KeyFile.ADMIN)
async def add(
    api: Api, output: Output, client: str, amount: str, reference: str | None, reason: str | None
) -> None:
    """Top up the account of CLIENT by AMOUNT, once for each reference."""
    await _post(api, output, client, "top_up", amount, reference, reason)


@credit.command(
    context_settings=NEGATIVE_AMOUNTS,
    epilog="Example: tollwire credit adjust acme -5.00 --reason 'double top-up'",
)
@click.argument("client")
@click.argument("amount")
@reference_option
@reason_option
@api_command(KeyFile.ADMIN)
async def adjust(
    api: Api, output: Output, client: str, amount: str, reference: str | None, reason: str | None
) -> None:
    """Correct the balance of CLIENT by AMOUNT, up or down.

    It may end below zero.
    """
    await _post(api, output, client, "adjustment", amount, reference, reason)


@credit.command()
@click.argument("client")
@api_command(KeyFile.ADMIN)
async def show(api: Api, output: Output, client: str) -> None:
    """Show the balance of CLIENT, and the credit that was posted lately."""
    shown = (await api.get(f"{CLIENTS}/{part(client)}")).read(ClientShown)
    trail = await api.get("/admin/v1/audit", {"target": f"client/{client}", "limit": SHOWN_DEFAULT})
    posted = [line for line in trail.read(AuditPage).lines if line.action.startswith("credit.")]
    if output.as_json:
        output.document({"client": client, "balance": shown.balance, "posted": posted})
        return
    balance = shown.balance
    output.details(
        [
            ("Available", amount_text(balance.available, balance.currency)),
            ("Posted", amount_text(balance.posted, balance.currency)),
            ("Held", held_text(balance)),
            ("Credit limit", amount_text(balance.credit_limit, balance.currency)),
        ]
    )
    if posted:
        output.gap()
        rows = [
            (
                short_time_text(line.at), line.action.removeprefix("credit.").replace("_", " "),
                amount_text(line.after["amount"], line.after["currency"]), line.after["reference"],
                line.actor, line.reason or "",
            )
            for line in posted
        ]  # fmt: skip
        output.table(["posted", "kind", ">amount", "~reference", "by", "~reason"], rows)


async def _post(
    api: Api, output: Output, client: str, kind: str, amount: str, reference: str | None, reason: str | None
) -> None:
    body: dict[str, Any] = {
        "kind": kind,
        "amount": plain_amount(amount),
        # Drawn before the first try, so that a repeated request posts nothing twice.
        "reference": reference or f"cli-{secrets.token_hex(REFERENCE_BYTES)}",
        "reason": reason,
    }
    again = f"Run it again with --reference {body['reference']}: then it is posted once."
    with perhaps_done(f"It may have been posted. {again}", reference=body["reference"]):
        answer = await api.request("POST", f"{CLIENTS}/{part(client)}/credit", body, may_repeat=True)
        posted = answer.read(CreditPosted)
    if output.as_json:
        output.document({**answer.plain(), "reference": body["reference"]})
        return
    output.details(
        [
            ("Client", client),
            ("Posted", f"{amount_text(body['amount'])} {posted.currency}"),
            (
                "Reference",
                f"{body['reference']}{' (posted before; nothing was posted now)' if posted.replayed else ''}",
            ),
            ("Available", amount_text(posted.available, posted.currency)),
        ]
    )


def plain_amount(amount: str) -> str:
    """The amount as the API takes it, with its decimals.

    Raises:
        Failure: it is no amount.
    """
    try:
        return format_micros(parse_micros(amount))
    except MoneyFormatError as error:
        raise Failure("The amount is not right.", detail=str(error), exit_code=Exit.USAGE) from None


def held_text(balance: Balance) -> str:
    """What is held, and for how many messages."""
    return f"{amount_text(balance.held, balance.currency)} for {count_text(balance.open_holds, 'message')}"
