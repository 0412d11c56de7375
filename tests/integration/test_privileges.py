"""Every role against every table, column, sequence and function: the server says what privileges.txt says.

What the server says is tried, too, where it matters most: test_roles and test_retention_roles do by hand
what is forbidden.
"""

from pathlib import Path

import asyncpg

from tests.support.servers import Database

MATRIX = Path(__file__).with_name("privileges.txt")
ROLES = ["api", "worker", "dlr", "ledger", "readonly"]

TABLES = """
    select format('table %s.%s', n.nspname, c.relname)
           || coalesce(string_agg(format(' %s=%s', r.role, may.letters), '' order by r.place)
                       filter (where may.letters <> ''), '')
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    cross join unnest($1::text[]) with ordinality r(role, place)
    cross join lateral (
        select coalesce(string_agg(p.letter, '' order by p.place)
                   filter (where has_table_privilege('tollwire_' || r.role, c.oid, p.name)), '') as letters
        from (values (1, 'SELECT', 'r'), (2, 'INSERT', 'a'), (3, 'UPDATE', 'w'), (4, 'DELETE', 'd'),
                     (5, 'TRUNCATE', 'D'), (6, 'REFERENCES', 'x'), (7, 'TRIGGER', 't'), (8, 'MAINTAIN', 'm'))
             p(place, name, letter)
    ) may
    where n.nspname in ('tollwire', 'ledger') and c.relkind in ('r', 'p', 'v', 'm', 'f')
      and not c.relispartition
    group by n.nspname, c.relname order by n.nspname, c.relname
"""
COLUMNS = """
    select format('columns %s.%s %s=r %s', n.nspname, c.relname, r.role,
                  string_agg(a.attname, ',' order by a.attname))
    from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
    cross join unnest($1::text[]) r(role)
    where n.nspname in ('tollwire', 'ledger') and a.attacl is not null
      and has_column_privilege('tollwire_' || r.role, c.oid, a.attnum, 'SELECT')
      and not has_table_privilege('tollwire_' || r.role, c.oid, 'SELECT')
    group by n.nspname, c.relname, r.role order by 1
"""
FUNCTIONS = """
    select format('function %s.%s', n.nspname, p.proname)
           || coalesce(string_agg(' ' || r.role, '' order by r.place)
                       filter (where has_function_privilege('tollwire_' || r.role, p.oid, 'execute')), '')
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    cross join unnest($1::text[]) with ordinality r(role, place)
    where n.nspname in ('tollwire', 'ledger')
    group by n.nspname, p.proname, p.oid order by n.nspname, p.proname, p.oid
"""
# A partition is written and read through its table; sequences serve defaults that functions fill.
ELSEWHERE = """
    select format('%s %s', c.oid::regclass, r.role) from pg_class c
    join pg_namespace n on n.oid = c.relnamespace cross join unnest($1::text[]) r(role)
    where n.nspname in ('tollwire', 'ledger')
      and case when c.relkind = 'S' then
               has_sequence_privilege('tollwire_' || r.role, c.oid, 'USAGE, SELECT, UPDATE')
          else c.relispartition and has_table_privilege(
               'tollwire_' || r.role, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
          end
"""
ON_SCHEMAS = """
    select n.nspname, r.role from pg_namespace n cross join unnest($1::text[]) r(role)
    where n.nspname in ('tollwire', 'ledger', 'public')
      and has_schema_privilege('tollwire_' || r.role, n.oid, 'CREATE')
"""
ROLE_POWERS = """
    select rolname from pg_roles where rolname like 'tollwire\\_%'
      and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls
           or (rolcanlogin and rolname = 'tollwire_owner')
           or (rolname <> 'tollwire_migrate' and pg_has_role(rolname, 'tollwire_owner', 'member')
               and rolname <> 'tollwire_owner'))
"""


async def _rows(connection: asyncpg.Connection, sql: str) -> list[str]:
    return [" ".join(map(str, row)) for row in await connection.fetch(sql, ROLES)]


async def test_each_role_may_do_what_the_matrix_says_and_nothing_else(database: Database) -> None:
    connection = await asyncpg.connect(database.dsn())
    said = [line for line in MATRIX.read_text("utf-8").splitlines() if not line.startswith("#")]
    found = [row for sql in (TABLES, COLUMNS, FUNCTIONS) for row in await _rows(connection, sql)]
    assert (set(found) - set(said), set(said) - set(found)) == (set(), set())
    for sql in (ELSEWHERE, ON_SCHEMAS):
        assert await _rows(connection, sql) == []
    assert [row[0] for row in await connection.fetch(ROLE_POWERS)] == []
    await connection.close()


def test_only_functions_write_money_and_messages() -> None:
    """The matrix itself: no role has more than reading on the journal, holds, balances and messages."""
    writable = {
        line.split()[1]
        for line in MATRIX.read_text("utf-8").splitlines()
        if line.startswith("table") and any(set(part.partition("=")[2]) - {"r"} for part in line.split()[2:])
    }
    assert writable == {
        "tollwire.api_key_uses",
        "tollwire.api_keys",
        "tollwire.audit_trail",
        "tollwire.callback_endpoints",
        "tollwire.callback_health",
        "tollwire.callback_secrets",
        "tollwire.carriers",
        "tollwire.clients",
        "tollwire.rates",
        "tollwire.routes",
    }
