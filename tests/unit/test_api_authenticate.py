"""Keys in memory: verified once, refused cheaply, forgotten when revoked (RULES 31, 32)."""

import asyncio
import dataclasses
import time
from collections.abc import Collection, Sequence
from hashlib import sha512

import bcrypt
import pytest

from api import authenticate, verify
from api.authenticate import Authenticator
from api.callers import Client, KeyRecord
from api.problems import Refusal
from api.verify import Verifier
from shared.domain.api_keys import RANDOM_BYTES, ApiKey, format_api_key, new_api_key
from shared.domain.problems import ProblemCode
from shared.runtime.clock import Clock
from shared.runtime.gcra import Quota

HOME = "192.0.2.1"


def key_of(number: int, *, is_test: bool = False) -> ApiKey:
    return new_api_key(sha512(number.to_bytes(8)).digest()[:RANDOM_BYTES], is_test)


def record_of(key: ApiKey) -> KeyRecord:
    hashed = bcrypt.hashpw(key.secret.encode(), bcrypt.gensalt(4))
    return KeyRecord(key.key_id, hashed, key.is_test, frozenset({"admin"}), (), None, None)


class Rows:
    """The table of keys, with a count of how often it was asked."""

    def __init__(self, *records: KeyRecord) -> None:
        self.records = {record.key_id: record for record in records}
        self.asked = 0
        self.was_asked = asyncio.Semaphore(0)
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def load(self, key_ids: Sequence[str]) -> dict[str, KeyRecord]:
        self.asked += 1
        self.was_asked.release()
        found = {key_id: self.records[key_id] for key_id in key_ids if key_id in self.records}
        await self.may_answer.wait()
        return found


async def refresh(authenticator: Authenticator, clients: Collection[int] | None = None) -> None:
    authenticator.outdate(clients)
    await authenticator.refresh()


async def refused(authenticator: Authenticator, text: str, address: str = HOME) -> ProblemCode:
    with pytest.raises(Refusal) as caught:
        await authenticator.authenticate(text, address)
    return caught.value.code


async def test_a_key_is_verified_once_and_then_remembered():
    key = key_of(1)
    rows = Rows(record_of(key))
    authenticator = Authenticator(rows.load)
    for _ in range(5):
        assert (await authenticator.authenticate(format_api_key(key), HOME)).key_id == key.key_id
    assert rows.asked == 1


async def test_a_thousand_requests_with_a_new_key_verify_it_once():
    key = key_of(1)
    rows = Rows(record_of(key))
    authenticator = Authenticator(rows.load)
    text = format_api_key(key)
    await asyncio.gather(*(authenticator.authenticate(text, HOME) for _ in range(1_000)))
    assert rows.asked == 1


async def test_a_wrong_secret_is_remembered_as_wrong():
    key, other = key_of(1), key_of(2)
    rows = Rows(record_of(key))
    authenticator = Authenticator(rows.load)
    text = format_api_key(dataclasses.replace(other, key_id=key.key_id))
    for _ in range(5):
        assert await refused(authenticator, text) is ProblemCode.UNAUTHORIZED
    assert rows.asked == 1


async def test_a_test_key_is_not_the_live_key_of_the_same_secret():
    key = key_of(1)
    authenticator = Authenticator(Rows(record_of(key)).load)
    text = format_api_key(dataclasses.replace(key, is_test=True))
    assert await refused(authenticator, text) is ProblemCode.UNAUTHORIZED


async def test_junk_never_reaches_the_table():
    rows = Rows()
    authenticator = Authenticator(rows.load)
    for text in ("", "x", "tw_" + "a" * 12 + "_" + "b" * 49, "tw_\udcff"):
        assert await refused(authenticator, text) is ProblemCode.UNAUTHORIZED
    assert rows.asked == 0


async def test_failures_of_an_address_are_limited_before_the_table_is_asked():
    rows = Rows()
    authenticator = Authenticator(rows.load)
    codes = [
        await refused(authenticator, format_api_key(key_of(n)))
        for n in range(verify.SOURCE_FAILURES.burst + 5)
    ]
    assert codes[-5:] == [ProblemCode.TOO_MANY_REQUESTS] * 5
    assert rows.asked == verify.SOURCE_FAILURES.burst
    with pytest.raises(Refusal, match="too_many_requests") as caught:
        await authenticator.authenticate(format_api_key(key_of(998)), HOME)
    assert "wrong API keys came from this address" in caught.value.problem().detail
    assert await refused(authenticator, format_api_key(key_of(999)), "192.0.2.2") is ProblemCode.UNAUTHORIZED


async def guess_from_everywhere(authenticator: Authenticator, key: ApiKey, count: int) -> None:
    """So many wrong secrets of a key, each from a source of its own, one after the other."""
    for number, guess in enumerate(guesses_at(key, count)):
        assert await refused(authenticator, guess, f"192.0.2.{number}") is ProblemCode.UNAUTHORIZED


async def test_who_guesses_at_a_key_does_not_keep_its_owner_out_of_a_process_that_has_not_seen_it():
    key = key_of(1)
    authenticator = Authenticator(Rows(record_of(key)).load)
    await guess_from_everywhere(authenticator, key, verify.KEY_FAILURES.burst + 5)
    found = await authenticator.authenticate(format_api_key(key), "198.51.100.1")
    assert found.key_id == key.key_id


async def test_a_source_has_few_places_in_the_line_of_a_key_that_is_guessed_at():
    """Who guesses from one address cannot fill it for the owner."""
    key = key_of(1)
    authenticator = Authenticator(Rows(record_of(key)).load, verifier=Verifier(slow_pause_seconds=0.0))
    await guess_from_everywhere(authenticator, key, verify.KEY_FAILURES.burst)
    guesses = [asyncio.create_task(refused(authenticator, text)) for text in guesses_at(key, 50)[20:]]
    owner = asyncio.create_task(authenticator.authenticate(format_api_key(key), "198.51.100.1"))
    assert (await owner).key_id == key.key_id
    codes = await asyncio.gather(*guesses)
    assert codes.count(ProblemCode.UNAUTHORIZED) == verify.SLOW_OF_SOURCE_MAX
    assert codes.count(ProblemCode.TOO_MANY_REQUESTS) == len(codes) - verify.SLOW_OF_SOURCE_MAX


async def test_a_key_that_is_guessed_at_is_verified_slowly_and_others_are_not():
    key, others = key_of(1), [key_of(n) for n in range(2, 6)]
    rows = Rows(*map(record_of, (key, *others)))
    authenticator = Authenticator(rows.load, verifier=Verifier(slow_pause_seconds=3_600.0))
    await guess_from_everywhere(authenticator, key, verify.KEY_FAILURES.burst)
    guess = asyncio.create_task(refused(authenticator, guesses_at(key, 21)[-1]))
    for other in others:
        assert (await authenticator.authenticate(format_api_key(other), HOME)).key_id == other.key_id
    assert not guess.done()
    await gone(guess)


async def gone(task: asyncio.Task[ProblemCode]) -> None:
    """Let nobody wait for it any more."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_remembered_key_works_while_somebody_guesses_at_it():
    key = key_of(1)
    authenticator = Authenticator(Rows(record_of(key)).load)
    await authenticator.authenticate(format_api_key(key), HOME)
    for number in range(verify.KEY_FAILURES.burst + 1):
        guess = dataclasses.replace(key_of(number + 10), key_id=key.key_id)
        await refused(authenticator, format_api_key(guess))
    assert (await authenticator.authenticate(format_api_key(key), HOME)).key_id == key.key_id


@pytest.mark.parametrize(("ahead_seconds", "works"), [(120.0, False), (-120.0, True)])
async def test_a_key_ends_by_the_clock_of_the_database(ahead_seconds, works):
    key = key_of(1)
    ends_at = time.time() + (60 if ahead_seconds > 0 else -60)  # by this machine's clock: later, or past
    record = dataclasses.replace(record_of(key), expires_at_seconds=ends_at)
    authenticator = Authenticator(Rows(record).load, clock=Clock(ahead_seconds))
    if works:
        assert (await authenticator.authenticate(format_api_key(key), HOME)).key_id == key.key_id
    else:
        assert await refused(authenticator, format_api_key(key)) is ProblemCode.UNAUTHORIZED


async def test_a_revoked_key_is_gone_after_a_refresh():
    key, kept = key_of(1), key_of(2)
    rows = Rows(record_of(key), record_of(kept))
    authenticator = Authenticator(rows.load)
    for one in (key, kept):
        await authenticator.authenticate(format_api_key(one), HOME)
    del rows.records[key.key_id]
    await refresh(authenticator)
    asked = rows.asked
    assert (await authenticator.authenticate(format_api_key(kept), HOME)).key_id == kept.key_id
    assert rows.asked == asked
    assert await refused(authenticator, format_api_key(key)) is ProblemCode.UNAUTHORIZED


async def test_a_refresh_that_failed_goes_on_with_the_keys_it_has_not_looked_at(monkeypatch):
    monkeypatch.setattr(authenticate, "REFRESH_CHUNK", 1)
    keys = [key_of(number) for number in range(1, 5)]
    rows = Rows(*map(record_of, keys))
    is_there = [True] * 4 + [True, True, False, True, True]

    async def load(key_ids: Sequence[str]) -> dict[str, KeyRecord]:
        if not is_there.pop(0):
            raise ConnectionError("it is away")
        return await rows.load(key_ids)

    authenticator = Authenticator(load)
    for key in keys:
        await authenticator.authenticate(format_api_key(key), HOME)
    for key_id, record in rows.records.items():
        rows.records[key_id] = dataclasses.replace(record, scopes=frozenset())
    with pytest.raises(ConnectionError, match="away"):
        await refresh(authenticator)
    await authenticator.refresh()
    assert is_there == []
    for key in keys:
        assert (await authenticator.authenticate(format_api_key(key), HOME)).scopes == frozenset()


async def test_a_wrong_key_stays_known_as_wrong_whatever_is_changed():
    rows = Rows()
    authenticator = Authenticator(rows.load)
    text = format_api_key(key_of(1))
    for changed in (None, frozenset({1}), None):
        assert await refused(authenticator, text) is ProblemCode.UNAUTHORIZED
        await refresh(authenticator, changed)
    assert rows.asked == 1


async def test_a_refresh_for_some_clients_looks_at_their_keys_alone():
    key, other = key_of(1), key_of(2)
    client = Client(
        id=7, name="acme", currency="EUR", is_suspended=False, quota=Quota(60, 10), charge="delivered",
        default_sender="ACME", allowed_senders=None, allowed_countries=None,
        allowed_callback_hosts=frozenset(), messages_per_second=0, text_retention_days=7, has_endpoint=False,
    )  # fmt: skip
    rows = Rows(dataclasses.replace(record_of(key), client=client), record_of(other))
    authenticator = Authenticator(rows.load)
    for one in (key, other):
        await authenticator.authenticate(format_api_key(one), HOME)
    rows.records.clear()
    await refresh(authenticator, frozenset({8}))
    assert (await authenticator.authenticate(format_api_key(key), HOME)).client == client
    await refresh(authenticator, frozenset({7}))
    assert await refused(authenticator, format_api_key(key)) is ProblemCode.UNAUTHORIZED
    assert (await authenticator.authenticate(format_api_key(other), HOME)).key_id == other.key_id


async def test_a_refresh_brings_new_scopes_without_a_new_verification():
    key = key_of(1)
    rows = Rows(record_of(key))
    authenticator = Authenticator(rows.load)
    await authenticator.authenticate(format_api_key(key), HOME)
    rows.records[key.key_id] = dataclasses.replace(rows.records[key.key_id], scopes=frozenset())
    await refresh(authenticator)
    assert (await authenticator.authenticate(format_api_key(key), HOME)).scopes == frozenset()


async def test_a_revocation_during_the_verification_wins():
    """The row was read before the revocation, the answer comes after it: it must be read again."""
    key = key_of(1)
    rows = Rows(record_of(key))
    authenticator = Authenticator(rows.load)
    rows.may_answer.clear()
    asking = asyncio.create_task(authenticator.authenticate(format_api_key(key), HOME))
    await rows.was_asked.acquire()
    del rows.records[key.key_id]
    refreshing = asyncio.create_task(refresh(authenticator))
    await asyncio.sleep(0)
    rows.may_answer.set()
    await refreshing
    with pytest.raises(Refusal):
        await asking


async def test_a_caller_that_leaves_does_not_spoil_the_verification_of_others():
    key = key_of(1)
    rows = Rows(record_of(key))
    authenticator = Authenticator(rows.load)
    rows.may_answer.clear()
    text = format_api_key(key)
    leaves, stays = (asyncio.create_task(authenticator.authenticate(text, HOME)) for _ in range(2))
    await rows.was_asked.acquire()
    leaves.cancel()
    rows.may_answer.set()
    assert (await stays).key_id == key.key_id


async def test_more_new_keys_than_can_be_verified_in_time_are_told_to_come_back():
    keys = [key_of(n) for n in range(3)]
    authenticator = Authenticator(Rows(*map(record_of, keys)).load, verifier=Verifier(queue_max=2))
    *waiting, late = [
        asyncio.create_task(authenticator.authenticate(format_api_key(key), HOME)) for key in keys
    ]
    with pytest.raises(Refusal) as caught:
        await late
    assert caught.value.code is ProblemCode.BUSY
    assert [record.key_id for record in await asyncio.gather(*waiting)] == [key.key_id for key in keys[:2]]


def guesses_at(key: ApiKey, count: int) -> list[str]:
    """Keys of this id, each with a secret that is not its own."""
    return [
        format_api_key(dataclasses.replace(key_of(n), key_id=key.key_id)) for n in range(1_000, 1_000 + count)
    ]


async def test_guesses_at_a_key_that_come_together_are_slowed_like_those_that_follow_each_other():
    key = key_of(1)
    verifier = Verifier(slow_pause_seconds=3_600.0)
    authenticator = Authenticator(Rows(record_of(key)).load, verifier=verifier)
    burst = verify.KEY_FAILURES.burst
    guesses = [
        asyncio.create_task(refused(authenticator, guess, f"192.0.2.{n}"))
        for n, guess in enumerate(guesses_at(key, burst + 5))
    ]
    assert await asyncio.gather(*guesses[:burst]) == [ProblemCode.UNAUTHORIZED] * burst
    for guess in guesses[burst:]:
        assert not guess.done()
        await gone(guess)


async def test_guesses_of_an_address_that_come_together_hardly_pass_its_limit():
    keys = [key_of(n) for n in range(300)]
    authenticator = Authenticator(Rows(*map(record_of, keys)).load)
    guesses = [guess for key in keys for guess in guesses_at(key, 1)]
    codes = await asyncio.gather(*(refused(authenticator, guess) for guess in guesses))
    verified = codes.count(ProblemCode.UNAUTHORIZED)
    limit = verify.SOURCE_FAILURES.burst
    # A machine that stands still meanwhile gives the burst back once.
    assert limit <= verified <= 2 * limit + verify.VERIFY_AT_ONCE
    assert codes.count(ProblemCode.TOO_MANY_REQUESTS) == len(keys) - verified


async def test_many_new_keys_behind_one_address_are_all_let_in():
    """A process that has just started, and a proxy whose address all clients share."""
    keys = [key_of(n) for n in range(400)]
    authenticator = Authenticator(Rows(*map(record_of, keys)).load)
    records = await asyncio.gather(*(authenticator.authenticate(format_api_key(key), HOME) for key in keys))
    assert [record.key_id for record in records] == [key.key_id for key in keys]


async def test_a_right_key_uses_up_no_failure_of_its_id():
    key, others = key_of(1), [key_of(n) for n in range(2, 6)]
    rows = Rows(*map(record_of, (key, *others)))
    authenticator = Authenticator(rows.load, verifier=Verifier(slow_pause_seconds=3_600.0))
    guesses = guesses_at(key, verify.KEY_FAILURES.burst + 1)
    for guess in guesses[:-2]:
        assert await refused(authenticator, guess) is ProblemCode.UNAUTHORIZED
    await authenticator.authenticate(format_api_key(key), HOME)
    assert await refused(authenticator, guesses[-2]) is ProblemCode.UNAUTHORIZED
    slow = asyncio.create_task(refused(authenticator, guesses[-1]))
    for other in others:
        await authenticator.authenticate(format_api_key(other), HOME)
    assert not slow.done()
    await gone(slow)


async def test_a_verification_that_failed_uses_up_no_failure_of_its_key():
    """The database was away: nobody knows that the key was wrong."""
    key = key_of(1)
    is_away = True

    async def load(_key_ids: Sequence[str]) -> dict[str, KeyRecord]:
        if is_away:
            raise ConnectionError("away")
        return {key.key_id: record_of(key)}

    authenticator = Authenticator(load)
    for guess in guesses_at(key, verify.KEY_FAILURES.burst + 1):
        with pytest.raises(ConnectionError):
            await authenticator.authenticate(guess, HOME)
    is_away = False
    assert (await authenticator.authenticate(format_api_key(key), HOME)).key_id == key.key_id
