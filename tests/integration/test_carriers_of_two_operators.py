"""Two operators change one carrier: what one of them did the other does not undo."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from cli import carrier_commands
from cli.api_client import Answer, Api
from cli.failures import Refused
from cli.output import Output
from cli.target import Target
from shared.runtime.keyring import Keyring
from shared.storage import carriers
from tests.support.api_rig import Answer as ApiAnswer
from tests.support.api_rig import Rig, open_api, prepare
from tests.support.servers import Database

CARRIER = "/admin/v1/carriers/telco"
SETTINGS = {"url": "https://carrier.example.org/submit", "body": {"to": "$msisdn", "text": "$text"}}
VERSION_AND_TRAIL = """
    select array[(select version from tollwire.config_version), (select count(*) from tollwire.audit_trail)]
"""
OTHERS: dict[str, Any] = {"settings": SETTINGS, "enabled": False}


class Overtaken(Api):
    """Somebody else is done between our look and our change, as often as there is one."""

    others: list[Callable[[], Awaitable[object]]]

    async def get(self, path: str, query: Mapping[str, Any] | None = None) -> Answer:
        answer = await super().get(path, query)
        if self.others:
            await self.others.pop()()
        return answer


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


async def change(rig: Rig, operator: str, others: list[Callable[[], Awaitable[object]]]) -> None:
    async with Overtaken(Target(rig.url, operator)) as api:
        api.others = others
        await carrier_commands._change(api, Output(as_json=True), "telco", None, {"rate_per_second": 10})


async def test_a_command_that_changes_the_speed_does_not_start_what_was_stopped_meanwhile(rig: Rig) -> None:
    operator = await rig.operator()
    await rig.call("PUT", CARRIER, key=operator, body={"settings": SETTINGS})
    await change(rig, operator, [lambda: rig.call("PUT", CARRIER, key=operator, body=OTHERS)])
    shown = (await rig.call("GET", "/admin/v1/carriers", key=operator)).body["carriers"][-1]
    assert (shown["enabled"], shown["rate_per_second"]) == (False, 10)


async def test_a_command_gives_a_carrier_up_that_others_keep_changing(rig: Rig) -> None:
    operator = await rig.operator()
    await rig.call("PUT", CARRIER, key=operator, body={"settings": SETTINGS})

    def faster(window_max: int) -> Callable[[], Awaitable[object]]:
        return lambda: rig.call("PUT", CARRIER, key=operator, body={**OTHERS, "window_max": window_max})

    with pytest.raises(Refused) as refused:
        await change(rig, operator, [faster(n) for n in range(1, carrier_commands.LOOKS_MAX + 1)])
    assert refused.value.problem.code == "changed_meanwhile"


async def test_a_carrier_is_left_as_it_is_when_it_is_not_what_was_seen(rig: Rig) -> None:
    operator = await rig.operator()
    made = await rig.call("PUT", CARRIER, key=operator, body={"settings": SETTINGS})
    seen = {"version": made.body["version"]}
    stopped = await rig.call("PUT", CARRIER, key=operator, body={**OTHERS, **seen})
    assert (stopped.status, stopped.body["enabled"]) == (200, False)
    late = await rig.call("PUT", CARRIER, key=operator, body={"settings": SETTINGS, **seen})
    assert (late.status, late.code) == (409, "changed_meanwhile")
    # A repeat whose answer was lost, and one that names no version.
    again = await rig.call("PUT", CARRIER, key=operator, body={**OTHERS, **seen})
    assert (again.status, again.body) == (200, stopped.body)
    plain = await rig.call("PUT", CARRIER, key=operator, body={"settings": SETTINGS})
    assert (plain.status, plain.body["enabled"], plain.body["version"]) == (200, True, seen["version"])
    absent = await rig.call("PUT", f"{CARRIER}-2", key=operator, body={"settings": SETTINGS, **seen})
    assert (absent.status, absent.code) == (409, "changed_meanwhile")


async def put(rig: Rig, operator: str, secret: str, **fields: Any) -> ApiAnswer:
    body = {"settings": SETTINGS, "secret": secret, **fields}
    return await rig.call("PUT", CARRIER, key=operator, body=body)


async def stored_secret(rig: Rig, tmp_path: Path) -> str:
    async with rig.connection() as conn:
        stored = await carriers.stored_carrier(conn, "telco")
    assert stored.secret_sealed is not None
    keyring = Keyring.load(tmp_path / "keyring.json")
    return keyring.unseal(stored.secret_sealed, carriers.carrier_secret_aad(stored.id)).decode()


async def test_a_secret_that_another_operator_has_put_meanwhile_stays(rig: Rig, tmp_path: Path) -> None:
    operator = await rig.operator()
    seen = (await put(rig, operator, "first")).body["version"]
    theirs = await put(rig, operator, "theirs")
    assert (theirs.status, theirs.body["version"] != seen) == (200, True)
    late = await put(rig, operator, "late", version=seen)
    assert (late.status, late.code) == (409, "changed_meanwhile")
    slower = await put(rig, operator, "theirs", version=seen, rate_per_second=1)
    assert (slower.status, slower.code) == (409, "changed_meanwhile")
    assert await stored_secret(rig, tmp_path) == "theirs"
    ours = await put(rig, operator, "ours", version=theirs.body["version"])
    assert (ours.status, await stored_secret(rig, tmp_path)) == (200, "ours")
    plain = await put(rig, operator, "first")
    assert (plain.status, await stored_secret(rig, tmp_path)) == (200, "first")
    assert plain.body["version"] != seen  # of the seal: it does not tell that a secret was there before


async def test_a_stale_version_puts_no_secret_where_all_else_is_so_already(rig: Rig, tmp_path: Path) -> None:
    operator = await rig.operator()
    seen = (await put(rig, operator, "first")).body["version"]
    await put(rig, operator, "first", rate_per_second=10)
    late = await put(rig, operator, "late", rate_per_second=10, version=seen)
    assert (late.status, late.code) == (409, "changed_meanwhile")
    assert await stored_secret(rig, tmp_path) == "first"


async def test_a_repeat_that_brings_its_secret_again_is_answered_and_changes_nothing(rig: Rig) -> None:
    operator = await rig.operator()
    seen = (await put(rig, operator, "first")).body["version"]
    put_once = await put(rig, operator, "second", version=seen, rate_per_second=10)
    async with rig.connection() as conn:
        before = await conn.fetchval(VERSION_AND_TRAIL)
    again = await put(rig, operator, "second", version=seen, rate_per_second=10)
    assert (again.status, again.body) == (200, put_once.body)
    async with rig.connection() as conn:
        assert await conn.fetchval(VERSION_AND_TRAIL) == before


async def test_who_changes_a_carrier_waits_for_who_is_changing_it(database: Database, rig: Rig) -> None:
    """Both read it before either had written, and the second one's version was the first one's."""
    operator = await rig.operator()
    made = await rig.call("PUT", CARRIER, key=operator, body={"settings": SETTINGS})
    body = {"settings": SETTINGS, "version": made.body["version"]}
    answers = await asyncio.gather(
        *(rig.call("PUT", CARRIER, key=operator, body={**body, "window_max": n}) for n in range(1, 9))
    )
    assert sorted(answer.status for answer in answers) == [200] + [409] * 7
    conn = await asyncpg.connect(database.dsn())
    befores = await conn.fetchval(
        "select count(*) from tollwire.audit_trail where target = 'carrier/telco' and before is not null"
    )
    await conn.close()
    assert befores == 1
