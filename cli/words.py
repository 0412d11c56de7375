"""What was typed, before it is sent anywhere."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from cli.failures import Exit, Failure


def refuse_undecodable(options: Mapping[str, Any]) -> None:
    """Return when all words are text. Paths may be of any bytes.

    Raises:
        Failure: one is not UTF-8, so no request and no table could hold it.
    """
    for name, value in options.items():
        for word in _words(value):
            if any("\ud800" <= character <= "\udfff" for character in word):
                title = f"{name.replace('_', ' ').capitalize()} is not UTF-8."
                raise Failure(title, detail=ascii(word), exit_code=Exit.USAGE)


def part(name: str) -> str:
    """A name as one part of a URL's path, whatever it holds.

    Raises:
        Failure: it is empty, which would name all of its kind.
    """
    if not name:
        raise Failure("The name is empty.", exit_code=Exit.USAGE)
    return quote(name, safe="")


def _words(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        return [value]
    return [word for word in value if isinstance(word, str)] if isinstance(value, tuple) else ()
