"""Wherever the hosts of a DSN stand, each is asked by a DSN of its own that says the same of all else."""

import pytest

from shared.runtime.postgres_hosts import Hosts


@pytest.mark.parametrize(
    ("dsn", "each"),
    [
        ("postgresql://u:p@a/db?sslmode=require", ["postgresql://u:p@a/db?sslmode=require"]),
        (
            "postgresql://u:p%40%2C%3A@a:1,[::1]:2,c/db?sslmode=verify-full&sslrootcert=%2Fca",
            [
                "postgresql://u:p%40%2C%3A@a:1/db?sslmode=verify-full&sslrootcert=%2Fca",
                "postgresql://u:p%40%2C%3A@[::1]:2/db?sslmode=verify-full&sslrootcert=%2Fca",
                "postgresql://u:p%40%2C%3A@c/db?sslmode=verify-full&sslrootcert=%2Fca",
            ],
        ),
        ("postgresql://u:p,q@a,b/db", ["postgresql://u:p,q@a/db", "postgresql://u:p,q@b/db"]),
        ("postgresql://a,b,a/db", ["postgresql://a/db", "postgresql://b/db"]),
        ("postgresql://%2Frun%2Fpg,b/db", ["postgresql://%2Frun%2Fpg/db", "postgresql://b/db"]),
        (
            "postgresql://u@/db?host=/run/pg,b&port=1,2&sslmode=allow",
            [
                "postgresql://u@/db?sslmode=allow&host=%2Frun%2Fpg&port=1",
                "postgresql://u@/db?sslmode=allow&host=b&port=2",
            ],
        ),
        (
            "postgresql://u@/db?host=a,b&port=1",
            ["postgresql://u@/db?host=a&port=1", "postgresql://u@/db?host=b&port=1"],
        ),
        ("postgresql://u@/db?host=a,b", ["postgresql://u@/db?host=a", "postgresql://u@/db?host=b"]),
        ("postgresql://u@/db?host=a,b&port=1,2,3", ["postgresql://u@/db?host=a,b&port=1,2,3"]),
        ("postgresql:///db?service=x", ["postgresql:///db?service=x"]),
    ],
)
def test_each_host_has_a_dsn_of_its_own(dsn: str, each: list[str]) -> None:
    assert Hosts(dsn)._dsns == each
