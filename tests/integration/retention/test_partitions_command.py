"""`tollwire partitions` shows each day that is online, and what keeps it."""

import asyncio
import json

from click.testing import CliRunner

from cli.partitions import partitions
from tests.support.flow import open_flow
from tests.support.old_days import accepted_on, days_ago, delivered_on, retention


async def test_each_day_shows_how_far_it_is_and_what_keeps_it(database, tmp_path):
    async with open_flow(database) as flow, open_flow(database, "ledger") as ledger:
        client, carrier = await flow.client(), await flow.carrier()
        await delivered_on(flow, days_ago(40), client, carrier)
        (waiting,) = await accepted_on(flow, days_ago(5), client)
        await retention(ledger.pool, tmp_path).run_once()
        dsn = database.dsn("ledger")
        shown = await asyncio.to_thread(CliRunner().invoke, partitions, ["--json", "--dsn", dsn])
        table = await asyncio.to_thread(CliRunner().invoke, partitions, ["--dsn", dsn])
    lines = {line["day"]: line for line in json.loads(shown.stdout)}
    assert [lines[days_ago(days).isoformat()]["state"] for days in (40, 5, 1, 0)] == [
        "archived",
        "open",
        "open",
        "open",
    ]
    assert lines[days_ago(5).isoformat()]["kept_by"] == f"message {waiting} is QUEUED"
    assert lines[days_ago(40).isoformat()]["kept_by"] is None
    assert lines[days_ago(40).isoformat()]["tables"] == 10
    assert (table.exit_code, str(waiting) in table.stdout) == (0, True)
