"""A DSN that names several hosts is read as one that names one."""

from urllib.parse import urlsplit

import pytest

from cli.doctor_postgres import _where
from shared.runtime.postgres_dsn import complete_dsn, split_dsn
from shared.runtime.tls import TlsFiles

MANY = "postgresql://ann:p%40w@a:1,[::1]:2,[2001:db8::1]/tollwire?sslmode=require"


def test_brackets_may_stand_behind_another_host() -> None:
    parts = split_dsn(MANY)
    assert (parts.scheme, parts.username, parts.path) == ("postgresql", "ann", "/tollwire")
    assert parts.netloc == "ann:p%40w@a:1,[::1]:2,[2001:db8::1]"
    assert parts.geturl() == MANY
    assert _where(MANY) == "ann at a:1,[::1]:2,[2001:db8::1]/tollwire"
    assert complete_dsn(MANY, "", "disable", TlsFiles("TOLLWIRE_POSTGRES")) == MANY.replace(
        "require", "disable"
    )


@pytest.mark.parametrize(
    "dsn", ["postgresql://[::1", "postgresql://a,::1]/db", "postgresql://a,[::1/db", "postgresql://[a]/db"]
)
def test_brackets_that_hold_no_address_are_refused(dsn: str) -> None:
    with pytest.raises(ValueError, match=r"IPv6|address"):
        split_dsn(dsn)


@pytest.mark.parametrize("dsn", ["", "postgresql:", "postgresql:///db?service=x", "nonsense", "a://b"])
def test_what_names_no_host_is_split_as_it_stands(dsn: str) -> None:
    assert split_dsn(dsn) == urlsplit(dsn)
