"""Reading over HTTP: messages, pages, balance, journal, and that nobody reads another's."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from api.cursors import LAST_ID, cursor_of
from api.message_reads import SETTLED_SECONDS
from tests.support.api_rig import Rig, open_api, prepare
from tests.support.servers import Database

COUNT_WAITING = "select count(*) from pg_locks where not granted"


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


async def test_a_message_is_read_with_its_text_hold_and_events(rig):
    key = await rig.client("acme")
    sent = await rig.send(key, text="Grüße", client_ref="r-1", delivery="at_least_once", max_price="0.50")
    found = await rig.call("GET", f"/v1/messages/{sent.body['id']}", key=key)
    assert found.status == 200, found
    assert (found.body["text"], found.body["text_expired"]) == ("Grüße", False)
    assert (found.body["region"], found.body["delivery"]) == ("DE", "at_least_once")
    assert found.body["hold"] == {
        "state": "HELD",
        "amount": "0.0750",
        "currency": "EUR",
        "held_at": found.body["hold"]["held_at"],
        "resolved_at": None,
        "reason": None,
        "late_captured_at": None,
    }
    assert [event["event"] for event in found.body["events"]] == ["accepted", "hold.held"]
    assert found.body["attempts"] == []


async def test_a_text_that_does_not_open_is_null_and_the_rest_of_the_message_is_there(
    rig, database, tmp_path
):
    """Another keyring, or a row that was changed: the operator's affair, and the message is asked about."""
    key = await rig.client("acme")
    sent = await rig.send(key)
    (tmp_path / "later").mkdir()
    with capture_logs() as logs:
        async with open_api(database, tmp_path / "later") as later:
            found = await later.call("GET", f"/v1/messages/{sent.body['id']}", key=key)
    assert (found.status, found.body["text"], found.body["text_expired"]) == (200, None, False)
    assert found.body["hold"]["state"] == "HELD"
    said = {line["event"]: line for line in logs}
    assert said["text cannot be opened"]["message_id"] == sent.body["id"]
    assert said["the keyring does not open what the database holds"]["shut"] == "1 of 1 texts"


async def test_what_belongs_to_another_client_is_not_found(rig):
    mine, theirs = await rig.client("acme"), await rig.client("globex")
    sent = await rig.send(mine)
    path = f"/v1/messages/{sent.body['id']}"
    assert (await rig.call("GET", path, key=mine)).status == 200
    assert (await rig.call("GET", path, key=theirs)).code == "not_found"
    assert (await rig.call("DELETE", path, key=theirs)).code == "not_found"
    assert (await rig.call("GET", "/v1/messages", key=theirs)).body["messages"] == []
    assert (await rig.call("GET", "/v1/ledger?kind=hold", key=theirs)).body["entries"] == []
    assert (await rig.call("GET", "/v1/balance", key=theirs)).body["open_holds"] == 0


@pytest.mark.parametrize(
    "id_", ["0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "nonsense", "00000000-0000-0000-0000-000000000000"]
)
async def test_an_id_that_nobody_has_is_not_found(rig, id_):
    key = await rig.client("acme")
    answer = await rig.call("GET", f"/v1/messages/{id_}", key=key)
    assert (answer.status, answer.code) == (404, "not_found")


async def test_pages_run_newest_first_without_gap_or_repeat(rig):
    key = await rig.client("acme")
    sent = [(await rig.send(key, text=str(n))).body["id"] for n in range(7)]
    seen, cursor = [], ""
    while True:
        page = (await rig.call("GET", f"/v1/messages?limit=3{cursor}", key=key)).body
        seen += [message["id"] for message in page["messages"]]
        await rig.send(key, text="while it is read")
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == sent[::-1]


async def test_filters_narrow_a_list(rig):
    key = await rig.client("acme")
    await rig.send(key, to="+4915112345678", lane="bulk", client_ref="a")
    await rig.send(key, to="+4915112345679", client_ref="b")
    for query, expected in (
        ("to=%2B4915112345678", ["a"]),
        ("lane=bulk", ["a"]),
        ("client_ref=b", ["b"]),
        ("status=QUEUED", ["b", "a"]),
        ("status=DELIVERED", []),
        ("since=2020-01-01T00:00:00Z&until=2021-01-01T00:00:00Z", []),
        ("since=2020-01-01T00:00:00Z", ["b", "a"]),
    ):
        page = await rig.call("GET", f"/v1/messages?{query}", key=key)
        assert [message["client_ref"] for message in page.body["messages"]] == expected, query


async def test_following_a_list_stops_before_what_may_still_commit(rig):
    key = await rig.client("acme")
    start = (await rig.call("GET", "/v1/messages", key=key)).body["after"]
    await rig.send(key)
    page = (await rig.call("GET", f"/v1/messages?after={start}", key=key)).body
    assert page["messages"] == []
    assert page["after"] == start
    old = await _older_message(rig, SETTLED_SECONDS + 5)
    await _older_message(rig, SETTLED_SECONDS - 5)
    page = (await rig.call("GET", f"/v1/messages?after={start_of_time()}", key=key)).body
    assert [message["id"] for message in page["messages"]] == [old]


@pytest.mark.parametrize("waited_seconds", [SETTLED_SECONDS - 2, -0.5, -28.0])
async def test_since_and_until_go_by_the_time_that_is_shown(rig, waited_seconds):
    key = await rig.client("acme")
    sent = (await rig.send(key)).body
    other = await _older_message(rig, waited_seconds)  # accepted with it, its id made before, or ahead
    created_at = datetime.fromisoformat(sent["created_at"])
    shown = created_at.isoformat().replace("+00:00", "Z")
    next_ms = (created_at + timedelta(milliseconds=1)).isoformat().replace("+00:00", "Z")
    for query, expected in (
        (f"since={shown}", {sent["id"], other}),
        (f"since={shown}&until={next_ms}", {sent["id"], other}),
        (f"since={next_ms}", set()),
        (f"until={shown}", set()),
        (f"until={next_ms}", {sent["id"], other}),
    ):
        page = (await rig.call("GET", f"/v1/messages?{query}", key=key)).body
        assert {message["id"] for message in page["messages"]} == expected, query
        assert page["next_cursor"] is None
    seen, cursor = [], ""
    for _ in range(2):
        page = (await rig.call("GET", f"/v1/messages?since={shown}&limit=1{cursor}", key=key)).body
        seen += [message["id"] for message in page["messages"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == sorted((sent["id"], other), reverse=True)


def start_of_time() -> str:
    return "A" * 22


async def _older_message(rig: Rig, seconds: float) -> str:
    """Copy the newest message with an id of so many seconds ago, as if it had been accepted then."""
    connection = await asyncpg.connect(rig.database.dsn())
    old = await connection.fetchval(
        "select tollwire.uuid7_v1(clock_timestamp() - make_interval(secs => $1))", seconds
    )
    columns = await connection.fetchval(
        "select string_agg(column_name, ', ') from information_schema.columns"
        " where table_schema = 'tollwire' and table_name = 'messages' and column_name <> 'id'"
    )
    await connection.execute(
        f"insert into tollwire.messages (id, {columns}) select $1, {columns} from tollwire.messages"
        " order by id desc limit 1",
        old,
    )
    await connection.execute(
        "insert into tollwire.message_states (message_id, state, updated_at)"
        " values ($1, 'QUEUED', clock_timestamp())",
        old,
    )
    await connection.close()
    rig.database.is_corrupted_on_purpose()
    return str(old)


async def test_the_journal_shows_each_entry_with_the_balance_after_it(rig):
    key = await rig.client("acme", credit_micros=1_000_000)
    sent = await rig.send(key)
    await rig.call("DELETE", f"/v1/messages/{sent.body['id']}", key=key)
    page = (await rig.call("GET", "/v1/ledger", key=key)).body
    assert [entry["kind"] for entry in page["entries"]] == ["release", "hold", "top_up"]
    assert [entry["version"] for entry in page["entries"]] == [3, 2, 1]
    assert [entry["held_after"] for entry in page["entries"]] == ["0.0000", "0.0750", "0.0000"]
    assert page["entries"][1]["message_id"] == sent.body["id"]
    assert page["currency"] == "EUR"
    first = (await rig.call("GET", "/v1/ledger?limit=2", key=key)).body
    rest = (await rig.call("GET", f"/v1/ledger?cursor={first['next_cursor']}", key=key)).body
    assert [*first["entries"], *rest["entries"]] == page["entries"]
    assert rest["next_cursor"] is None


async def test_an_adjustment_shows_whether_it_gave_or_took(rig):
    key, operator = await rig.client("acme", credit_micros=1_000_000), await rig.operator()
    for reference, amount in (("up", "0.50"), ("down", "-2.00")):
        body = {"kind": "adjustment", "amount": amount, "reference": reference}
        posted = await rig.call("POST", "/admin/v1/clients/acme/credit", key=operator, body=body)
        assert posted.status == 200
    entries = (await rig.call("GET", "/v1/ledger", key=key)).body["entries"]
    assert [(entry["kind"], entry["amount"], entry["posted_after"]) for entry in entries] == [
        ("adjustment", "-2.0000", "-0.5000"),
        ("adjustment", "0.5000", "1.5000"),
        ("top_up", "1.0000", "1.0000"),
    ]


async def test_a_message_is_cancelled_once_and_its_hold_released(rig):
    key = await rig.client("acme")
    path = f"/v1/messages/{(await rig.send(key)).body['id']}"
    for _ in range(2):
        answer = await rig.call("DELETE", path, key=key)
        assert (answer.status, answer.body["status"]) == (200, "CANCELLED")
    found = (await rig.call("GET", path, key=key)).body
    assert (found["status"], found["hold"]["state"]) == ("CANCELLED", "RELEASED")
    assert [event["event"] for event in found["events"]][-2:] == ["cancelled", "hold.released"]
    assert (await rig.call("GET", "/v1/balance", key=key)).body["available"] == "10.0000"


async def test_a_cursor_that_no_page_gave_is_named(rig):
    key = await rig.client("acme")
    for path, field in (
        ("/v1/messages?cursor=no", "query.cursor"),
        ("/v1/messages?after=no", "query.after"),
        (f"/v1/messages?after={cursor_of(LAST_ID)}", "query.after"),
        ("/v1/messages?client_ref=a%00b", "query.client_ref"),
        ("/v1/ledger?cursor=no", "query.cursor"),
        ("/v1/messages?limit=0", "query.limit"),
        ("/v1/messages?limit=many", "query.limit"),
        ("/v1/messages?colour=red", "query.colour"),
        ("/v1/messages?limit=1&limit=2", "query.limit"),
        ("/v1/messages?since=yesterday", "query.since"),
        ("/v1/balance?verbose=1", "query.verbose"),
    ):
        answer = await rig.call("GET", path, key=key)
        assert (answer.status, answer.code) == (422, "validation_failed"), path
        assert answer.body["errors"][0]["field"] == field


async def test_a_number_or_time_whose_plus_became_a_space_is_named(rig):
    key = await rig.client("acme")
    await rig.send(key, to="+4915112345678")
    for query, field in (
        ("to=+4915112345678", "query.to"),
        ("to=4915112345678", "query.to"),
        ("to=%2B49%20151%2012345678", "query.to"),
        ("to=%2B" + "4" * 16, "query.to"),
        ("since=2026-11-21T10:00:00+01:00", "query.since"),
    ):
        answer = await rig.call("GET", f"/v1/messages?{query}", key=key)
        assert (answer.status, answer.code) == (422, "validation_failed"), query
        [error] = answer.body["errors"]
        assert error["field"] == field
        assert error["detail"].endswith("%2B in a URL")
    for query, count in (
        ("to=%2B4915112345678", 1),
        ("to=%2B4999", 0),
        ("since=2026-11-21T10:00:00%2B01:00", 1),
    ):
        assert len((await rig.call("GET", f"/v1/messages?{query}", key=key)).body["messages"]) == count


async def test_the_list_of_a_client_reads_an_index_of_each_day(rig):
    """Newest first, page by page: the plan must never sort a client's whole history."""
    async with rig.connection() as conn:
        lines = await conn.fetch(
            "explain select id from tollwire.messages where client_id = 1 and id < $1"
            " order by id desc limit 50",
            uuid4(),
        )
    plan = "\n".join(line[0] for line in lines)
    assert "Index" in plan
    assert "Sort" not in plan


async def test_reads_that_hang_hold_no_connection_that_messages_are_accepted_with(database, tmp_path):
    await prepare(database)
    async with open_api(database, tmp_path, postgres_pool_min="1", postgres_pool_max="4") as rig:
        keys = [await rig.client(f"client-{n}") for n in range(6)]
        admin = await asyncpg.connect(database.dsn())
        async with asyncio.TaskGroup() as group, admin.transaction():
            await admin.execute("lock table tollwire.carriers")
            reads = [group.create_task(rig.call("GET", "/v1/messages", key=key)) for key in 2 * keys]
            while not (await admin.fetchval(COUNT_WAITING) or all(read.done() for read in reads)):
                pass  # a lock tells nobody; each read waits for it as long as its role may
            for key in keys:
                assert (await rig.send(key)).status == 202
        assert len({read.result().headers["X-Request-Id"] for read in reads}) == len(reads)
        await admin.close()
