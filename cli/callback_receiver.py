"""A small receiver of callbacks: verifies, remembers what it has seen, and answers."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web

from shared.domain.signatures import ID_HEADER, SignatureError, verify

# A callback has less than 20 kB (Standard Webhooks).
BODY_BYTES_MAX: Final = 64 * 1024
# Ids remembered to tell a repetition; a real receiver keeps them in its database, for days.
IDS_REMEMBERED_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Received:
    """One request to the receiver.

    ``why_not`` is None when the signature verified. Only then is there an ``event``: what somebody else sent
    is not shown. ``times_seen`` counts the callback's ``webhook_id``, this time included.
    """

    at: float
    answered: int
    why_not: str | None
    webhook_id: str | None
    times_seen: int
    event: Mapping[str, Any] | None

    @property
    def is_verified(self) -> bool:
        """True when one of our secrets signed it."""
        return self.why_not is None


class Receiver:
    """Judges requests.

    Args:
        secrets: the keys that are believed.
        status: what a verified callback is answered; others get 401.
        tell: hears of each request.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        secrets: Sequence[bytes],
        status: int,
        tell: Callable[[Received], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._secrets = secrets
        self._status = status
        self._tell = tell
        self._now = now
        self._seen: OrderedDict[str, int] = OrderedDict()
        self.verified = 0
        self.repeated = 0
        self.refused = 0

    def judge(self, headers: Mapping[str, str], body: bytes) -> Received:
        """Verify a request and note it."""
        try:
            verify(headers, body, self._secrets, self._now())
            event = msgspec.json.decode(body, type=dict[str, Any])
        except SignatureError as error:
            return self._refuse(str(error))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return self._refuse("signed, but the body is no JSON object")
        webhook_id = headers[ID_HEADER]
        times = self._count(webhook_id)
        self.verified += 1
        self.repeated += times > 1
        return Received(self._now(), self._status, None, webhook_id, times, event)

    def _refuse(self, why_not: str) -> Received:
        self.refused += 1
        return Received(self._now(), HTTPStatus.UNAUTHORIZED, why_not, None, 0, None)

    def _count(self, webhook_id: str) -> int:
        times = self._seen.pop(webhook_id, 0) + 1
        self._seen[webhook_id] = times
        if len(self._seen) > IDS_REMEMBERED_MAX:
            self._seen.popitem(last=False)
        return times

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a POST to any path."""
        received = self.judge(request.headers, await request.read())
        try:
            self._tell(received)
        except OSError:  # nobody has read of it: it is to come again
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        return web.Response(status=received.answered)

    def app(self) -> web.Application:
        """The web application around it."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_post("/{path:.*}", self.handle)
        return app
