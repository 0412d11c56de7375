"""Makes the server-side functions of a database those of this program (docs/adr/0022).

A migration installs what its revision brings. What a file has become since is installed here, at the end of
every migration: functions are replaced, which waits for nobody who calls them.
"""

import re
from importlib import metadata
from typing import Final

import asyncpg

from shared.runtime.postgres import Connection
from shared.storage.function_files import function_files, functions_digest

# Where a function begins in its file; grants stand behind the last one.
_BEGINNING: Final = re.compile(r"^create or replace (?:function|aggregate) (\w+\.\w+)\(", re.MULTILINE)

VERSION_NUMBERS: Final = 3

# Whatever the server knows of a function, by its name; of one that is made anew only the number is another.
INSTALLED: Final = """
    select n.nspname || '.' || p.proname as name,
           array_agg(array[
               (to_jsonb(p) - array['oid', 'proacl'])::text,
               (to_jsonb(a) - 'aggfnoid')::text,
               array(select x.grantee::regrole::text || x.privilege_type
                     from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x order by 1)::text
           ] order by p.oid)::text as made
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace and n.nspname in ('tollwire', 'ledger')
    left join pg_aggregate a on a.aggfnoid = p.oid
    group by 1
"""
OF_A_NAME: Final = """
    select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname || '.' || p.proname = $1
"""
# From everybody, and where $2 says so from our own roles: what an operator grants a role of his stays. What
# was made without the default privileges of bootstrap.sql has no list of rights, and everybody may call it.
REVOKE: Final = """
    select string_agg(format('revoke all on routine %s from %s', p.oid::regprocedure,
                             case x.grantee when 0 then 'public' else x.grantee::regrole::text end), '; ')
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
    where n.nspname || '.' || p.proname = any ($1) and x.grantee <> p.proowner
      and (x.grantee = 0 or $2 and x.grantee::regrole::text like 'tollwire\\_%')
"""
# The sets and who installed them, the newest last. Before revision 0018 none says its version.
READ_FUNCTIONS: Final = """
    select f.digest, array(select jsonb_array_elements_text(to_jsonb(f) -> 'version'))::integer[]
    from tollwire.installed_functions f order by f.number
"""
NEWEST: Final = """
    select digest, version from tollwire.installed_functions order by number desc limit 1
"""
# What a later version installed, or this one after it, is not there any more: who needs that is not to start.
FORGET: Final = """
    delete from tollwire.installed_functions
    where digest = $1 or version > $2
        or version = $2 and number > (select o.number from tollwire.installed_functions o where o.digest = $1)
"""
NOTE: Final = "insert into tollwire.installed_functions (digest, version) values ($1, $2)"


def pieces() -> dict[str, str]:
    """Return what makes each function, by its name with its schema, in the order of the files."""
    found: dict[str, str] = {}
    for path in function_files():
        text = path.read_text(encoding="utf-8")
        begins = list(_BEGINNING.finditer(text))
        ends = [one.start() for one in begins[1:]] + [len(text)]
        found.update((one[1], text[one.start() : end]) for one, end in zip(begins, ends, strict=True))
    return found


def program_version() -> list[int]:
    """This program's version in numbers, [0, 1, 0]: such lists compare as versions do."""
    return [int(number) for number in re.findall(r"\d+", metadata.version("tollwire"))[:VERSION_NUMBERS]]


def is_later(newest: str | None, version: list[int]) -> bool:
    """Whether the set that was installed last is another one than ours, and a later version's."""
    return newest != functions_digest() and version > program_version()


async def renew(connection: Connection, *, is_way_back: bool) -> int | None:
    """Install every function and its grants, and note it, in one transaction; return how many were others.

    Where all of them are as they are to be, nothing is written. Where those of a later version are there,
    neither, but that nobody else may call them: None. Its processes may run, and work on them;
    ``is_way_back`` says that ours are to be put back all the same. ``connection`` is the owner's, in no
    transaction, and nobody else migrates meanwhile.

    Raises:
        asyncpg.PostgresError: the database refused one; nothing was changed.
    """
    newest, version = await connection.fetchrow(NEWEST) or (None, [])
    if not is_way_back and is_later(newest, version):
        await _revoke(connection, list(pieces()), is_of_our_roles=False)
        return None
    transaction = connection.transaction()
    await transaction.start()
    try:
        # As in a dump: a function may name one that comes after it.
        await connection.execute("set local check_function_bodies = off")
        before = await _installed(connection)
        texts = pieces()
        await _revoke(connection, list(texts), is_of_our_roles=True)
        for name, text in texts.items():
            await _install(connection, name, text)
        await _revoke(connection, list(texts), is_of_our_roles=False)
        after = await _installed(connection)
        is_noted = newest == functions_digest() and version >= program_version()
        renewed = sum(before.get(name) != after[name] for name in texts)
        if is_noted and not renewed:
            await transaction.rollback()
            return 0
        await connection.execute(FORGET, functions_digest(), program_version())
        await connection.execute(NOTE, functions_digest(), program_version())
    except BaseException:
        await transaction.rollback()
        raise
    await transaction.commit()
    return renewed


async def _installed(connection: Connection) -> dict[str, str]:
    return {row["name"]: row["made"] for row in await connection.fetch(INSTALLED)}


async def _revoke(connection: Connection, names: list[str], *, is_of_our_roles: bool) -> None:
    if given := await connection.fetchval(REVOKE, names, is_of_our_roles):
        await connection.execute(given)


async def _install(connection: Connection, name: str, text: str) -> None:
    """Replace a function; where it took or gave something else until now, it is made anew."""
    try:
        async with connection.transaction():
            await connection.execute(text)
    except (asyncpg.InvalidFunctionDefinitionError, asyncpg.AmbiguousFunctionError):
        is_another = True  # another result; or its grant found two of the name
    else:
        is_another = len(await connection.fetch(OF_A_NAME, name)) > 1
    if is_another:
        for (signature,) in await connection.fetch(OF_A_NAME, name):
            await connection.execute(f"drop routine {signature}")
        await connection.execute(text)
