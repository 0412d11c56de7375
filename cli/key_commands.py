"""`tollwire key`: what authenticates a client."""

import secrets
from typing import Any, get_args

import click

from api.admin_schemas import KeyPage, KeyShown, NewKeyShown, Scope
from cli.api_client import Api
from cli.api_command import api_command
from cli.failures import Exit, Failure
from cli.listing import collect, limit_option
from cli.output import Output, short_time_text, time_text
from cli.target import KeyFile
from cli.words import TIME, part
from shared.domain.api_keys import RANDOM_BYTES, InvalidApiKey, format_api_key, new_api_key, parse_api_key

KEYS = "/admin/v1/keys"
ADMIN = "admin"
# No id has a _ in it.
KEY_BEGIN = "tw_"
SCOPES: tuple[str, ...] = get_args(Scope)
CLIENT_SCOPES = tuple(scope for scope in SCOPES if scope != ADMIN)


@click.group()
def key() -> None:
    """Make, revoke and list API keys."""


@key.command(epilog="Example: tollwire key create acme --name backend --allow-ip 198.51.100.0/24")
@click.argument("client", required=False)
@click.option("--operator", is_flag=True, help="An operator's key, of no client: scope admin.")
@click.option("--name", default="", help="For people.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="May be repeated; else all that a client needs. The scope admin is for --operator alone.",
)
@click.option(
    "--test",
    is_flag=True,
    help="Its messages never leave the simulator and cost nothing; it sees no live ones.",
)
@click.option(
    "--allow-ip", "allowed_ips", multiple=True, metavar="NETWORK", help="May be repeated; else any."
)
@click.option("--expires-at", type=TIME, metavar="TIME", help="As 2027-01-01T00:00:00Z; else never.")
@click.option("--reason", help="Why; stands in the audit trail.")
@api_command(KeyFile.ADMIN)
async def create(api: Api, output: Output, client: str | None, operator: bool, **given: Any) -> None:
    """Make a key for CLIENT. Its text is shown this once."""
    if (client is None) != operator:
        raise click.UsageError("Give CLIENT, or --operator for a key of no client, not both.")
    if operator and given["test"]:
        raise click.UsageError("An operator's key changes what is live: leave --test out.")
    if client is not None and ADMIN in given["scopes"]:
        raise click.UsageError("A client's key cannot have the scope admin; --operator makes a key that has.")
    body = {name: value for name, value in given.items() if value not in (None, (), "")}
    body["client"] = client
    body.setdefault("scopes", [ADMIN] if operator else list(CLIENT_SCOPES))
    answer = await api.request("POST", KEYS, body)
    made = answer.read(NewKeyShown)
    if output.as_json:
        output.document(answer.plain())
        return
    output.details([("Key", made.key), *_facts(made)])
    output.gap()
    output.note("Keep the key now: it is stored as a hash and cannot be shown again.")


@key.command()
def generate() -> None:
    """Print a new key for `tollwire bootstrap --operator-key`.

    Nobody knows it yet. Nothing is asked and nothing is stored: put the line into a file or a Secret.
    """
    click.echo(format_api_key(new_api_key(secrets.token_bytes(RANDOM_BYTES), is_test=False)))


@key.command("list", epilog="Example: tollwire key list --operator")
@click.argument("client", required=False)
@click.option("--operator", is_flag=True, help="Operators' keys, of no client.")
@limit_option
@api_command(KeyFile.ADMIN)
async def list_(api: Api, output: Output, client: str | None, operator: bool, limit: int) -> None:
    """List the keys of CLIENT, live ones first."""
    if (client is None) != operator:
        raise click.UsageError("Give CLIENT, or --operator for the keys of no client, not both.")
    path = KEYS if client is None else f"/admin/v1/clients/{part(client)}/keys"
    found, has_more = await collect(api, path, {}, KeyPage, lambda page: page.keys, limit=limit)
    if output.as_json:
        output.document({"keys": found, "has_more": has_more})
        return
    rows = [
        (
            one.key_id, one.name, "test" if one.is_test else "live", ", ".join(one.scopes),
            short_time_text(one.created_at), short_time_text(one.last_used_at), _state(one),
        )
        for one in found
    ]  # fmt: skip
    output.table(["key id", "~name", "kind", "~scopes", "made", "last used", "~state"], rows)
    output.more(has_more)


@key.command(epilog="Example: tollwire key revoke 9hT3fKq2Lm8x")
@click.argument("key_id")
@click.option("--reason", help="Why; stands in the audit trail.")
@api_command(KeyFile.ADMIN)
async def revoke(api: Api, output: Output, key_id: str, reason: str | None) -> None:
    """Revoke a key by its id; within a second no process takes it.

    The id stands before the last _ of the key; `tollwire key list` shows it too. Of a whole key only its id
    is sent.
    """
    path = f"{KEYS}/{part(_id_of(key_id))}"
    answer = await api.request("DELETE", path, query={"reason": reason}, may_repeat=True)
    if output.as_json:
        output.document(answer.plain())
    else:
        output.details(_facts(answer.read(KeyShown)))


def _id_of(typed: str) -> str:
    """The id of a key, also where the whole key was typed: its secret belongs into no URL, and into no log.

    Raises:
        Failure: it begins as a key does, and is none.
    """
    if not typed.startswith(KEY_BEGIN):
        return typed
    try:
        return parse_api_key(typed).key_id
    except InvalidApiKey as error:
        hint = "Give its id alone: `tollwire key list` shows it. Nothing was sent."
        raise Failure("The key is not right.", detail=str(error), hint=hint, exit_code=Exit.USAGE) from None


def _facts(shown: KeyShown) -> list[tuple[str, str | None]]:
    return [
        ("Key id", shown.key_id),
        ("Client", shown.client or "none: an operator's key"),
        ("Name", shown.name or None),
        ("Kind", "test: simulated, costs nothing" if shown.is_test else "live"),
        ("Scopes", ", ".join(shown.scopes)),
        ("From", ", ".join(shown.allowed_ips) if shown.allowed_ips else None),
        ("State", _state(shown) or "live"),
    ]


def _state(shown: KeyShown) -> str:
    if shown.revoked_at is not None:
        return f"revoked {time_text(shown.revoked_at)}"
    return "" if shown.expires_at is None else f"until {time_text(shown.expires_at)}"
