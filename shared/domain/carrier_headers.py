"""The headers of a submit, from a carrier's settings and its secret."""

import re
from collections.abc import Mapping

from shared.domain.carrier_secrets import SUBMIT_SECRET, named_secret

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.1
_IN_HEADER = re.compile(r"\$(\$|secret(?:\.([a-z_]+))?)?")
# What frames the request is not for settings to say.
_OURS = frozenset({"content-length", "transfer-encoding", "connection", "content-type", "accept-encoding"})


def fill_headers(headers: Mapping[str, str], secret: bytes | None) -> dict[str, str]:
    """Return the headers with their secrets: `$secret`, `$secret.<use>`, and `$$` for a dollar sign.

    Raises:
        ValueError: an unknown placeholder, a missing secret, or something that is no header.
    """

    def spell(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        if match[1] is None:
            raise ValueError("headers: after a dollar sign comes secret, secret.<use> or another dollar sign")
        return named_secret(secret, match[2] or SUBMIT_SECRET)

    filled = {name: _IN_HEADER.sub(spell, value) for name, value in headers.items()}
    for name, value in filled.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OURS:
            raise ValueError(f"headers: {name!r} cannot be set")
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"headers: the value of {name} has characters that a header cannot carry")
    return filled
