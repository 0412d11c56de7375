"""`tollwire keyring`: a new key for what is sealed, and the end of an old one."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cli.database_command import database_command, run_to_exit
from cli.failures import Exit, Failure, of_this_machine
from cli.home import Home
from cli.older_services import older_services
from cli.output import Output
from cli.screen import own_command
from cli.walk_screen import WalkScreen
from ledger.reseal import KeyUses, key_uses
from shared.runtime.keyring import Keyring, KeyringError
from shared.runtime.postgres import Pool

USES = ("carriers", "callback_secrets", "texts", "seals")


def keyring_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --keyring."""
    return click.option(
        "--keyring",
        "file",
        envvar="TOLLWIRE_KEYRING_FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The keyring file (TOLLWIRE_KEYRING_FILE); else that of TOLLWIRE_HOME.",
    )(command)


@click.group()
def keyring() -> None:
    """Make and rotate the keys that seal texts and secrets."""


@keyring.command(epilog="Example: tollwire keyring create keyring.json")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_context
def create(context: click.Context, file: Path) -> None:
    """Make a keyring of one new key in FILE. Refused when FILE is there: a lost key is lost data."""

    async def work() -> None:
        try:
            Keyring.generate(file)
        except KeyringError as error:
            raise Failure("No keyring was made.", detail=str(error), exit_code=Exit.USAGE) from error
        except OSError as error:
            error.filename = str(file)
            raise of_this_machine(error) from error
        Output(as_json=False).note(f"{file}: keep a copy where the database's backups are not.")

    context.exit(run_to_exit(work, as_json=False))


@keyring.command()
@keyring_option
@click.option(
    "--finish", is_flag=True, help="Seal with the key that was added: every service knows it by now."
)
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON document.")
@click.pass_context
def rotate(context: click.Context, file: Path | None, finish: bool, as_json: bool) -> None:
    """Add a key and seal with it from then on.

    While services run this takes two steps, since one that does not know a key cannot open what another
    seals with it: `rotate` adds the key, you restart the services, `rotate --finish` makes it the active
    one, and is refused while a service of TOLLWIRE_HOME runs that was started before. When the keyring
    lies in TOLLWIRE_HOME and that instance is down, both are done at once.

    The ledger process then seals anew what is sealed with older keys.
    """

    async def work() -> None:
        _rotate(file, Output(as_json=as_json), finish=finish)

    context.exit(run_to_exit(work, as_json=as_json))


def _rotate(file: Path | None, output: Output, *, finish: bool) -> None:
    path = _path(file)
    keys = _load(path)
    waiting = _waiting(keys)
    if finish and waiting is None:
        raise Failure("No key waits.", hint="`tollwire keyring rotate` adds one first.")
    if waiting is not None and not finish:
        raise Failure(
            f"The key {waiting} is there already and waits.",
            hint="Restart the services, then run `tollwire keyring rotate --finish`.",
        )
    if finish:
        _refuse_older(path, "Not every service knows the key that was added.", "it was")
    if finish or _is_down(path):
        rotated = keys if finish else keys.with_new_key()
        rotated = _with_active(rotated, rotated.key_ids[-1])
        note = "What is sealed with older keys is sealed anew by the ledger process."
    else:
        rotated = _with_active(keys.with_new_key(), keys.active)
        note = "Restart the services, then run `tollwire keyring rotate --finish`."
    _save(rotated, path)
    if output.as_json:
        output.document({"active": rotated.active, "waiting": _waiting(rotated), "keys": rotated.key_ids})
        return
    output.line(
        f"The active key is {rotated.active}; the keyring holds {', '.join(rotated.key_ids)}.", "bold"
    )
    output.note(note)


@keyring.command()
@keyring_option
@database_command
async def status(pool: Pool, output: Output, file: Path | None) -> None:
    """Show what each key is needed for, and which may be removed."""
    keys = _load(_path(file))
    with WalkScreen(output) as shown:
        uses = (await key_uses(pool, shown.tell)).by_key
    rows = {key_id: uses.pop(key_id, KeyUses()) for key_id in keys.key_ids}
    lost = {key_id: used for key_id, used in uses.items() if used.total}
    if output.as_json:
        output.document(
            [
                {"key": key, **dataclasses.asdict(used), "verdict": _verdict(keys, key, used)}
                for key, used in (rows | lost).items()
            ]
        )
    else:
        output.table(
            ["key", *(f">{use.replace('_', ' ')}" for use in USES), "verdict"],
            [
                [key, *(str(getattr(used, use)) for use in USES), _verdict(keys, key, used)]
                for key, used in (rows | lost).items()
            ],
        )


@keyring.command()
@click.argument("key")
@keyring_option
@database_command
async def remove(pool: Pool, output: Output, key: str, file: Path | None) -> None:
    """Remove KEY from the keyring. Refused while anything needs it.

    Also while a service of TOLLWIRE_HOME runs that was started before the keyring was written last: it may
    still seal with KEY. Services elsewhere you restart before, after `rotate --finish`.
    """
    path = _path(file)
    _refuse_needed(_load(path), key, KeyUses())
    # Before the count: a service that is restarted while it goes on may have sealed behind it with KEY.
    _refuse_older(path, "A service may still seal with it.", "the keyring was written last")
    with WalkScreen(output) as shown:
        used = (await key_uses(pool, shown.tell)).by_key.get(key, KeyUses())
    # Read again after the count, which may take minutes: a key that was added meanwhile stays.
    keys = _load(path)
    _refuse_needed(keys, key, used)
    left = {key_id: keys.key(key_id) for key_id in keys.key_ids if key_id != key}
    written = path.stat()
    rest = Keyring(keys.active, left)
    _save(rest, path)
    # A service that knows a key too many is not one of before: the next key may be removed at once.
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    if output.as_json:
        output.document({"active": rest.active, "waiting": _waiting(rest), "keys": rest.key_ids})
    else:
        output.line(f"{key} is removed.", "bold")


def _refuse_needed(keys: Keyring, key: str, used: KeyUses) -> None:
    if key not in keys.key_ids or key == keys.active or used.total:
        raise Failure(
            f"{key}: {_verdict(keys, key, used)}.", hint="`tollwire keyring status` shows what for."
        )


def _verdict(keys: Keyring, key: str, used: KeyUses) -> str:
    if key not in keys.key_ids:
        return "is needed and not in the keyring" if used.total else "is not in the keyring"
    if key == keys.active:
        return "is active"
    if key == _waiting(keys):
        return "waits to be active"
    return "is needed" if used.total else "may be removed"


def _waiting(keys: Keyring) -> str | None:
    """The key that was added and does not seal yet: new keys stand last."""
    last = keys.key_ids[-1]
    return None if last == keys.active else last


def _with_active(keys: Keyring, active: str) -> Keyring:
    return Keyring(active, {key_id: keys.key(key_id) for key_id in keys.key_ids})


def _path(file: Path | None) -> Path:
    return file or Home.of(os.environ).keyring


def _home_of(path: Path) -> Home | None:
    """The home in which the keyring lies, if it is an instance's.

    Of a keyring that lies elsewhere nobody can tell here which services use it.
    """
    home = Home.of(os.environ)
    return home if path.resolve().is_relative_to(home.path.resolve()) and home.is_made else None


def _is_down(path: Path) -> bool:
    """True when the keyring lies in the home of an instance, and nothing runs there."""
    home = _home_of(path)
    return home is not None and not home.is_running


def _refuse_older(path: Path, title: str, what: str) -> None:
    """Refuse what services that run must know of first.

    Raises:
        Failure: services run that were started before the keyring was written last.
    """
    home = _home_of(path)
    if home is not None and (older := older_services(home, path)):
        raise Failure(
            title,
            detail=f"Started before {what}: {', '.join(older)}.",
            hint=f"`{own_command('down')}` and `{own_command('up')}`, then this command again.",
        )


def _save(keys: Keyring, path: Path) -> None:
    try:
        keys.save(path)
    except OSError as error:
        error.filename = str(path)
        raise of_this_machine(error, hint="The keyring is as it was.") from error


def _load(path: Path) -> Keyring:
    try:
        return Keyring.load(path)
    except KeyringError as error:
        raise Failure("The keyring cannot be used.", detail=str(error), exit_code=Exit.USAGE) from error
