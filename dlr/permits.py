"""Whether a callback may be posted, and what signs it, by what dlr knows of its endpoint at this moment."""

from urllib.parse import urlsplit

from dlr import records
from dlr.bodies import body_of
from dlr.endpoint_book import LatestBook
from dlr.poster import Delivery
from dlr.store import CallbackRecord, CallbackWork
from shared.domain.retry import CALLBACK_ATTEMPTS_MAX
from shared.runtime.clock import Clock


class NotPermitted(Exception):  # noqa: N818 - named for what happened
    """The callback may not be posted as it is; ``record`` is what is noted of it."""

    def __init__(self, record: CallbackRecord) -> None:
        super().__init__(record.error or "its endpoint has another URL now")
        self.record = record


def own_host(work: CallbackWork) -> str:
    """The host that the message named itself; empty where it is the endpoint's own URL."""
    return urlsplit(work.url).hostname or "" if work.is_own_url and work.url else ""


class Permit:
    """The permit of one callback; it is asked for again when the turn has come, maybe after half a minute.

    Args:
        latest: what is known.
        clock: for secrets that expire.
        work: the callback.
        since: the time of the clock at which it was taken up, as it stood in the database.
    """

    def __init__(self, latest: LatestBook, clock: Clock, work: CallbackWork, since: float) -> None:
        self.host = own_host(work)
        self._latest = latest
        self._clock = clock
        self._work = work
        self._since = since
        self._body = b""

    @property
    def needs_news(self) -> bool:
        """Whether a book that is older than the callback could be the end of it.

        It has no secret yet, or not the host; or the secret was rotated since, and there is no further try.
        """
        book, work = self._latest.book, self._work
        if book is None or work.attempts + 1 >= CALLBACK_ATTEMPTS_MAX:
            return True
        is_barred = bool(self.host) and not book.may_call(work.endpoint_id, self.host)
        return is_barred or not book.secrets(work.endpoint_id, self._clock)

    def delivery(self) -> Delivery:
        """What may be posted now.

        Raises:
            NotPermitted: nothing signs it, its host was taken off the list, or its endpoint was moved.
        """
        book, work = self._latest.book, self._work
        secrets = book.secrets(work.endpoint_id, self._clock) if book else ()
        if book is None or not secrets or work.url is None:
            raise NotPermitted(records.without_secret(work))
        # An older book knows less of where the endpoint is than the callback does.
        if self._latest.was_true(self._since):
            if self.host and not book.may_call(work.endpoint_id, self.host):
                raise NotPermitted(records.barred(work, self.host))
            if not self.host and book.has_left(work.endpoint_id, work.url):
                raise NotPermitted(records.left(work))
        self._body = self._body or body_of(work)
        return Delivery(work.callback_id, work.endpoint_id, work.url, secrets, self._body, self.host)
