"""Lists of the API, page by page, up to as many as are wanted."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import click

from cli.api_client import Api

PAGE: Final = 1_000
SHOWN_DEFAULT: Final = 50


class Page(Protocol):
    """A page of any list."""

    @property
    def next_cursor(self) -> str | None:
        """What leads to the next page; None at the end."""


P = TypeVar("P", bound=Page)
T = TypeVar("T")

limit_option: Callable[[Any], Any] = click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=SHOWN_DEFAULT,
    show_default=True,
    help="Show so many at most.",
)


async def collect(
    api: Api,
    path: str,
    query: Mapping[str, Any],
    kind: type[P],
    items: Callable[[P], Sequence[T]],
    *,
    limit: int,
) -> tuple[list[T], bool]:
    """Return up to ``limit`` items of a list, and whether there are more."""
    found: list[T] = []
    async for page in pages(api, path, query, kind, limit=min(limit + 1, PAGE)):
        found += items(page)
        if len(found) > limit:
            break
    return found[:limit], len(found) > limit


async def pages(
    api: Api, path: str, query: Mapping[str, Any], kind: type[P], *, limit: int = PAGE
) -> AsyncIterator[P]:
    """Yield the pages of a list to its end."""
    cursor = None
    while True:
        page = (await api.get(path, {**query, "limit": limit, "cursor": cursor})).read(kind)
        yield page
        cursor = page.next_cursor
        if cursor is None:
            return
