"""Use cases that own batchers: opened with them, closed with them."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Self


class WithParts:
    """An async context that opens its parts with itself, and closes them in the opposite order."""

    _opened: AsyncExitStack

    def parts(self) -> Sequence[AbstractAsyncContextManager[Any]]:
        """What is opened, in this order."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        """Open the parts; when one fails, those before it are closed again."""
        async with AsyncExitStack() as stack:
            for part in self.parts():
                await stack.enter_async_context(part)
            self._opened = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the parts: whoever waits for one is answered first."""
        await self._opened.aclose()
