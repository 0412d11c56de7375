"""What `tollwire send --wait` reads of the list, of an API in use."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cli import follow
from cli.api_client import Answer, Api
from cli.target import Target
from tests.support.api_rig import Rig, open_api, prepare
from tests.support.servers import Database

PAGE = 15


class CountingApi(Api):
    """Knows how many pages were read."""

    pages = 0

    async def get(self, path: str, query: Any = None) -> Answer:
        self.pages += 1
        return await super().get(path, query)


async def sent(rig: Rig, key: str, count: int) -> list[str]:
    body = {"to": [f"+4915112{number:06}" for number in range(count)], "text": "sale"}
    answer = await rig.call("POST", "/v1/messages/batch", key=key, body=body)
    return [one["id"] for one in answer.body["results"]]


@pytest.fixture
async def rig(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(follow, "PAGE", PAGE)
    await prepare(database)
    async with open_api(database, tmp_path) as opened:
        yield opened


@pytest.fixture
async def key(rig: Rig) -> str:
    return await rig.client("acme", credit_micros=1_000_000_000)


async def test_of_the_list_no_more_is_read_than_what_was_sent_stands_on(rig: Rig, key: str) -> None:
    await sent(rig, key, 2 * PAGE)
    (first, *_) = asked = await sent(rig, key, follow.FEW + 5)
    await sent(rig, key, 2 * PAGE)
    await rig.call("DELETE", f"/v1/messages/{first}", key=key)
    async with CountingApi(Target(rig.url, key), patience_seconds=5.0) as api:
        states = await follow.follow(api, asked, timeout_seconds=0.001, on_look=lambda _: None)
        looks, rest = divmod(api.pages, len(asked) // PAGE)
    assert states == {**dict.fromkeys(asked, "QUEUED"), first: "CANCELLED"}
    assert (looks, rest) == (1, 0)


async def test_a_message_that_is_not_in_the_list_ends_the_reading_of_it(rig: Rig, key: str) -> None:
    await sent(rig, key, 4 * PAGE)
    asked = await sent(rig, key, follow.FEW + 5)
    gone = asked[-1][:-4] + ("0000" if asked[-1][-4:] != "0000" else "0001")
    async with CountingApi(Target(rig.url, key), patience_seconds=5.0) as api:
        states = await follow.follow(api, [*asked, gone], timeout_seconds=0.001, on_look=lambda _: None)
    assert states == dict.fromkeys([*asked, gone], "QUEUED")
    assert api.pages <= 1 + len(asked) // PAGE
