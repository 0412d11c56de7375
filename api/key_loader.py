"""Loading keys: those that many new callers bring at the same time go to PostgreSQL in one query."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from api import key_store
from api.callers import KeyRecord
from shared.runtime.batcher import Batcher
from shared.runtime.parts import WithParts
from shared.runtime.postgres import Pool

# A cold process with 10,000 active clients asks for them in a hundred queries instead of 10,000.
BATCH_MAX: Final = 200
QUEUE_MAX: Final = 5_000


class KeyLoader(WithParts):
    """Loads live keys by their ids. An open async context."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._batcher: Batcher[str, KeyRecord | None] = Batcher(
            self._flush, name="keys", batch_max=BATCH_MAX, queue_max=QUEUE_MAX, concurrency=2
        )

    def parts(self) -> Sequence[AbstractAsyncContextManager[Any]]:
        """The batchers."""
        return [self._batcher]

    async def load(self, key_ids: Sequence[str]) -> Mapping[str, KeyRecord]:
        """Return the keys among these ids that are not revoked; one alone travels with its neighbours."""
        if len(key_ids) != 1:
            return await key_store.load_keys(self._pool, key_ids)
        record = await self._batcher.submit(key_ids[0])
        return {} if record is None else {record.key_id: record}

    async def _flush(self, key_ids: Sequence[str]) -> Sequence[KeyRecord | None]:
        found = await key_store.load_keys(self._pool, key_ids)
        return [found.get(key_id) for key_id in key_ids]
