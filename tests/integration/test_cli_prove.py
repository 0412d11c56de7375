"""The books of a send, proved by an API whose replica is a little behind."""

import msgspec
import pytest

from cli import follow
from cli.api_client import Api
from cli.follow import prove
from cli.journal import Snapshot
from cli.send_progress import Accepted
from cli.target import Target
from tests.support.faulty_http import Reply, Request, faulty_server, http

MESSAGE = "0193a5b1-0000-7000-8000-00000000000a"
BEFORE = Snapshot("EUR", posted_micros=1_000_000, held_micros=0, version=0, is_quiet=True)


def of(body: object) -> Reply:
    return http(200, msgspec.json.encode(body))


def entry(version: int, kind: str, posted: str, held: str) -> dict[str, object]:
    return {
        "version": version, "at": "2026-11-21T10:00:00.000Z", "kind": kind, "amount": "0.1000",
        "message_id": MESSAGE, "posted_after": posted, "held_after": held, "reference": None,
        "reason": "delivered" if kind == "capture" else None,
    }  # fmt: skip


HOLD, CAPTURE = entry(1, "hold", "1.0000", "0.1000"), entry(2, "capture", "0.9000", "0.0000")


class Behind:
    """An API of which the first requests are answered as they were before the message's end."""

    def __init__(self, stale_requests: int) -> None:
        self.stale_requests = stale_requests

    def __call__(self, request: Request) -> Reply:
        entries = [HOLD] if self.stale_requests > 0 else [CAPTURE, HOLD]
        self.stale_requests -= 1
        if "/v1/ledger" in request.path:
            return of({"currency": "EUR", "entries": entries, "next_cursor": None})
        newest = entries[0]
        return of(
            {
                "posted": newest["posted_after"], "held": newest["held_after"], "available": "0.9000",
                "credit_limit": "0.0000", "currency": "EUR", "open_holds": 0,
                "as_of": "2026-11-21T10:00:01.000Z",
            }
        )  # fmt: skip


async def is_right(stale_requests: int) -> bool:
    async with (
        faulty_server(Behind(stale_requests)) as server,
        Api(Target(server.url, "tw_key"), patience_seconds=5.0) as api,
    ):
        proved = await prove(api, [Accepted(0, MESSAGE, 1, 100_000, False)], {MESSAGE: "DELIVERED"}, BEFORE)
        return proved.is_right


async def test_books_are_read_again_while_the_replica_has_not_seen_the_end():
    assert await is_right(stale_requests=7)


async def test_books_that_stay_wrong_are_said_to_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(follow, "CATCH_UP_SECONDS", 0.1)
    monkeypatch.setattr(follow, "CATCH_UP_PAUSE_SECONDS", 0.01)
    assert not await is_right(stale_requests=1_000_000)
