"""A client's reads run a few at a time; others' do not wait for them."""

import asyncio

import pytest

from api import places
from api.places import Places
from api.problems import Refusal
from api.settings import ApiSettings, split_pool
from shared.runtime.settings import load

POOL_MAX = 10
ACME, GLOBEX = 1, 2


class Reads:
    """Reads that last until they are told to end."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self.running = 0
        self.end = asyncio.Event()

    async def read(self, client_id: int) -> None:
        async with self._places.place(client_id):
            self.running += 1
            await self.end.wait()
            self.running -= 1


async def settled() -> None:
    """Every task has gone as far as it can; nothing here waits for anything but the others."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_clients_reads_run_a_few_at_a_time_and_nobody_elses_wait() -> None:
    reads = Reads(Places(POOL_MAX, running_max=2))
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(reads.read(ACME))
        await settled()
        assert reads.running == 2
        group.create_task(reads.read(GLOBEX))
        await settled()
        assert reads.running == 3
        reads.end.set()
    assert reads.running == 0


@pytest.mark.parametrize(
    ("whole", "hot", "others"),
    [(1, 1, 1), (2, 1, 1), (3, 2, 1), (4, 2, 2), (5, 3, 2), (6, 4, 2), (10, 7, 3), (25, 17, 8)],
)
def test_reads_have_more_connections_than_one_client_wherever_the_pool_allows_it(
    whole: int, hot: int, others: int
) -> None:
    environ = {"POSTGRES_DSN": "postgresql://db/x", "KEYRING_FILE": "k", "POSTGRES_POOL_MAX": str(whole)}
    environ["POSTGRES_POOL_MIN"] = "1"
    settings = load(ApiSettings, {f"TOLLWIRE_{name}": value for name, value in environ.items()})
    assert [share.postgres_pool_max for share in split_pool(settings)] == [hot, others]


@pytest.mark.parametrize(("pool_max", "running"), [(1, 1), (2, 1), (3, 2), (25, 4)])
async def test_no_client_has_every_connection(pool_max: int, running: int) -> None:
    reads = Reads(Places(pool_max))
    async with asyncio.TaskGroup() as group:
        for _ in range(30):
            group.create_task(reads.read(ACME))
        await settled()
        assert reads.running == running
        reads.end.set()


async def test_who_waits_too_long_is_told_when_to_come_again() -> None:
    reads = Reads(Places(POOL_MAX, running_max=1, wait_seconds=0.001))
    async with asyncio.TaskGroup() as group:
        group.create_task(reads.read(ACME))
        await settled()
        with pytest.raises(Refusal) as refused:
            await reads.read(ACME)
        reads.end.set()
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")


async def test_a_line_that_is_full_takes_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "WAITING_MAX", 1)
    reads = Reads(Places(POOL_MAX, running_max=1))
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(reads.read(ACME)) for _ in range(2)]
        await settled()
        with pytest.raises(Refusal):
            await reads.read(ACME)
        waiting[1].cancel()  # a client that went away leaves its place in the line
        await settled()
        group.create_task(reads.read(ACME))
        await settled()
        reads.end.set()
    assert reads.running == 0
