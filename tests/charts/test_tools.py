"""What is fetched is what is known, and a network that hiccups fails no build."""

import json

import pytest

from tests.charts.tools import LOCKED, TRIES_MAX, MissingToolError, retry


def test_each_npm_package_is_locked_by_its_hash_and_by_no_registry() -> None:
    packages = json.loads((LOCKED / "package-lock.json").read_text("utf-8"))["packages"]
    wanted = json.loads((LOCKED / "package.json").read_text("utf-8"))["dependencies"]
    assert packages.pop("")["dependencies"] == wanted
    assert {f"node_modules/{name}" for name in wanted} <= packages.keys()
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name


@pytest.mark.parametrize("failures", range(TRIES_MAX))
def test_what_fails_is_tried_again(failures: int) -> None:
    tries: list[int] = []

    def fetch() -> None:
        tries.append(len(tries))
        if len(tries) <= failures:
            raise MissingToolError("connection reset")

    retry(fetch)
    assert len(tries) == failures + 1


def test_what_cannot_be_had_says_how_often_it_was_tried_and_what_it_met() -> None:
    tries: list[int] = []

    def fetch() -> None:
        tries.append(len(tries))
        raise ConnectionError(f"connection {len(tries)} reset")

    with pytest.raises(MissingToolError, match=f"in {TRIES_MAX} tries.*connection {TRIES_MAX} reset"):
        retry(fetch)
    assert len(tries) == TRIES_MAX
