"""Times, numbers, prices and prefixes are read before anything is asked."""

import pytest
from click.testing import CliRunner

from cli.__main__ import tollwire

# Nobody listens there.
API = ("--api-url", "http://127.0.0.1:9", "--api-key", "x")


@pytest.mark.parametrize(
    ("words", "right"),
    [
        (["message", "list", "--since", "yesterday"], "must be an RFC 3339 time with a time zone"),
        (["message", "list", "--until", "1970-01-01T00:00:00Z"], "must be a time of the years 2000 to 2199"),
        (["message", "list", "--to", "0151"], "must be in E.164 with its +"),
        (["send", "+4915112345678", "x", "--send-at", "soon"], "must be an RFC 3339 time with a time zone"),
        (["send", "+4915112345678", "x", "--max-price", "0,10"], "must be an amount like 0.10"),
        (["send", "+4915112345678", "x", "--valid-for", "59"], "is not in the range 60<=x<=259200"),
        (["rate", "set", "49", "0,07"], "must be an amount like 0.10"),
        (["rate", "set", "DE", "0.07"], "must be at most 15 digits without the +"),
        (["key", "create", "acme", "--expires-at", "2027"], "must be an RFC 3339 time with a time zone"),
    ],
)
def test_what_the_api_would_not_read_is_wrong_use_told_in_the_command_lines_words(words, right) -> None:
    ended = CliRunner().invoke(tollwire, [*words, *API])
    told = " ".join(ended.output.split())
    assert (ended.exit_code, right in told, "%2B" in told, "query." in told) == (2, True, False, False), told


def test_what_the_api_reads_is_asked() -> None:
    words = ["--since", "2026-11-21T10:00:00+01:00", "--to", "+4915112345678"]
    assert CliRunner().invoke(tollwire, ["message", "list", *words, *API]).exit_code == 3
    for prefix in ("49", "+49"):
        assert CliRunner().invoke(tollwire, ["rate", "set", prefix, "0.07", *API]).exit_code == 3
