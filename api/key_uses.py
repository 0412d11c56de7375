"""When each API key was last used, and the seals of new ones: noted in memory, written in batches."""

from datetime import UTC, datetime
from typing import Final

from api import key_store
from shared.runtime.postgres import Pool

# A minute's error in "last used" harms nobody; a write a request would.
WRITE_EVERY_SECONDS: Final = 30.0
# One statement's arrays; a process with more active keys writes in several.
WRITE_MAX: Final = 5_000


class KeyUses:
    """Collects the keys that were used since the last write."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        # The key and, once it was verified by bcrypt, its seal.
        self._used: dict[str, bytes | None] = {}

    def note(self, key_id: str) -> None:
        """Remember that a key was used; costs one dict entry."""
        self._used.setdefault(key_id)

    def note_seal(self, key_id: str, seal: bytes) -> None:
        """Write this seal with the key's next use."""
        self._used[key_id] = seal

    async def write(self) -> int:
        """Write the uses since the last time; return how many keys. What fails is noted again."""
        used, self._used = list(self._used.items()), {}
        now = datetime.now(UTC)
        for start in range(0, len(used), WRITE_MAX):
            chunk = used[start : start + WRITE_MAX]
            try:
                await key_store.note_uses(self._pool, chunk, now)
            except BaseException:
                for key_id, seal in used[start:]:
                    self._used[key_id] = self._used.get(key_id) or seal
                raise
        return len(used)
