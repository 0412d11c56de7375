"""Callbacks over TLS: the name in the URL decides which certificate is good, the address where it goes."""

import asyncio
import ssl
from pathlib import Path
from uuid import UUID

import pytest

from dlr.poster import CallbackPoster, CallbackSettings, Delivery
from shared.domain.callbacks import Posted, Rejected, RejectReason
from tests.support.certificates import Authority
from tests.support.endpoints import answer, endpoint, says, says_nothing

NAME = "hooks.example.com"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def delivery(url: str, number: int = 1) -> Delivery:
    return Delivery(UUID(int=number), 7, url, (b"s" * 32,), b"{}")


def settings(authority: Authority, **more: float) -> CallbackSettings:
    deadline = more.get("deadline_seconds", 15.0)
    return CallbackSettings(
        callback_allow_private=True,
        callback_ca_file=str(authority.ca_file),
        callback_deadline_seconds=deadline,
    )


async def loopback(_: str) -> list[str]:
    return ["127.0.0.1"]


def open_descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


async def test_the_certificate_is_checked_for_the_name_and_the_name_is_told_to_the_server(
    authority: Authority,
) -> None:
    told: list[str | None] = []
    tls = authority.server(NAME)
    tls.sni_callback = lambda _, name, __: told.append(name)
    async with (
        endpoint(says(answer(200, b"ok")), tls=tls) as it,
        CallbackPoster(settings(authority), resolve=loopback) as poster,
    ):
        outcomes = [await poster.post(delivery(it.url(NAME), number)) for number in range(5)]

    assert {outcome.status for outcome in outcomes if isinstance(outcome, Posted)} == {200}
    assert it.requests[0].headers["host"] == f"{NAME}:{it.port}"
    assert told == [NAME]
    assert it.connections == 1


async def test_an_address_may_have_a_certificate_too(authority: Authority) -> None:
    async with (
        endpoint(says(answer()), tls=authority.server("127.0.0.1")) as it,
        CallbackPoster(settings(authority)) as poster,
    ):
        outcome = await poster.post(delivery(it.url()))

    assert isinstance(outcome, Posted)


@pytest.mark.parametrize(
    ("hosts", "valid_days", "reason"),
    [
        (("other.example.com",), 1, "Hostname mismatch"),
        (("127.0.0.1",), 1, "Hostname mismatch"),
        ((NAME,), -1, "certificate has expired"),
    ],
)
async def test_a_certificate_that_does_not_fit_is_rejected_before_a_byte_is_sent(
    authority: Authority, hosts: tuple[str, ...], valid_days: int, reason: str
) -> None:
    async with (
        endpoint(says(answer()), tls=authority.server(*hosts, valid_days=valid_days)) as it,
        CallbackPoster(settings(authority), resolve=loopback) as poster,
    ):
        outcome = await poster.post(delivery(it.url(NAME)))

    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.resolved_ip) == (RejectReason.TLS_FAILED, "127.0.0.1")
    assert reason in outcome.detail
    assert it.requests == []


async def test_an_authority_that_nobody_named_is_not_trusted(authority: Authority) -> None:
    async with (
        endpoint(says(answer()), tls=authority.server(NAME)) as it,
        CallbackPoster(CallbackSettings(callback_allow_private=True), resolve=loopback) as poster,
    ):
        outcome = await poster.post(delivery(it.url(NAME)))

    assert isinstance(outcome, Rejected)
    assert "unable to get local issuer certificate" in outcome.detail


async def test_a_server_without_tls_is_rejected(authority: Authority) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer(200))
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with CallbackPoster(settings(authority), resolve=loopback) as poster:
        outcome = await poster.post(delivery(f"https://{NAME}:{port}/"))
    server.close()

    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.detail) == (RejectReason.TLS_FAILED, "the TLS handshake failed")


async def test_a_server_that_only_knows_old_tls_is_rejected(authority: Authority) -> None:
    tls = authority.server(NAME)
    tls.set_ciphers("ALL:@SECLEVEL=0")
    tls.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        tls.maximum_version = ssl.TLSVersion.TLSv1_1
    async with (
        endpoint(says(answer()), tls=tls) as it,
        CallbackPoster(settings(authority), resolve=loopback) as poster,
    ):
        outcome = await poster.post(delivery(it.url(NAME)))

    assert isinstance(outcome, Rejected)
    assert outcome.reason is RejectReason.TLS_FAILED


async def test_a_handshake_that_never_ends_ends_at_the_deadline_and_leaves_nothing_open(
    authority: Authority,
) -> None:
    hung_up = asyncio.Barrier(21)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await hung_up.wait()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    before = open_descriptors()
    async with CallbackPoster(settings(authority, deadline_seconds=1.0), resolve=loopback) as poster:
        outcomes = await asyncio.gather(
            *[poster.post(delivery(f"https://{NAME}:{port}/", number)) for number in range(20)]
        )
    await hung_up.wait()
    after = open_descriptors()
    server.close()

    reasons = {outcome.reason for outcome in outcomes if isinstance(outcome, Rejected)}
    assert reasons == {RejectReason.TIMED_OUT}
    assert after <= before


async def test_silence_after_the_handshake_ends_at_the_deadline(authority: Authority) -> None:
    async with (
        endpoint(says_nothing, tls=authority.server(NAME)) as it,
        CallbackPoster(settings(authority, deadline_seconds=1.0), resolve=loopback) as poster,
    ):
        outcome = await poster.post(delivery(it.url(NAME)))

    assert isinstance(outcome, Rejected)
    assert outcome.reason is RejectReason.TIMED_OUT
