"""What a message that was tried very often shows of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from api.reads import ATTEMPTS_MAX
from tests.support.api_rig import Rig, open_api, prepare
from tests.support.servers import Database

# So many attempts, of which the last was taken.
ATTEMPT_OFTEN = """
with tried as (
    insert into tollwire.attempts
        (message_id, attempt_no, part_no, carrier_id, claimed_at, outcome, outcome_at)
    select $1::uuid, n, 1, (select min(id) from tollwire.carriers), now() + n * interval '1 second',
           (case when n < $2 then 'throttled' else 'submitted' end)::tollwire.attempt_outcome,
           now() + n * interval '1 second'
    from generate_series(1, $2::smallint) n)
update tollwire.message_states set attempt_no = $2 where message_id = $1
"""


@pytest.fixture
async def rig(database: Database, tmp_path: Path) -> AsyncIterator[Rig]:
    await prepare(database)
    async with open_api(database, tmp_path) as running:
        yield running


async def test_of_more_attempts_than_are_shown_the_last_ones_are(rig):
    """A carrier says "slower" for hours: the one attempt that counts comes after all those."""
    key = await rig.client("acme")
    sent = await rig.send(key)
    admin = await asyncpg.connect(rig.database.dsn())
    await admin.execute(ATTEMPT_OFTEN, sent.body["id"], ATTEMPTS_MAX + 2)
    await admin.close()
    found = (await rig.call("GET", f"/v1/messages/{sent.body['id']}", key=key)).body
    assert [attempt["attempt"] for attempt in found["attempts"]] == list(range(3, ATTEMPTS_MAX + 3))
    assert [attempt["outcome"] for attempt in found["attempts"][-2:]] == ["throttled", "submitted"]
    assert found["events"][-1]["event"] == "submitted"
