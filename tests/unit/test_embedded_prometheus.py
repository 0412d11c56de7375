"""The configuration that `tollwire up --observe` writes, and what it says where there is no Prometheus."""

from pathlib import Path

import pytest

from embedded.prometheus import Target, configuration, find_prometheus
from embedded.unit import NotInstalled


def program(folder: Path, says: str) -> None:
    file = folder / "prometheus"
    file.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    file.chmod(0o755)


def test_each_service_is_a_job_and_each_process_keeps_its_name():
    targets = [
        Target("tollwire-api", "api-1", 20001),
        Target("tollwire-api", "api-2", 20002),
        Target("tollwire-dlr", "dlr", 20003, "::1"),
    ]
    found = configuration(targets, Path("/rules"))
    jobs = {job["job_name"]: job["static_configs"] for job in found["scrape_configs"]}
    assert list(jobs) == ["tollwire-api", "tollwire-dlr"]
    assert jobs["tollwire-api"][1] == {"targets": ["127.0.0.1:20002"], "labels": {"instance": "api-2"}}
    assert jobs["tollwire-dlr"][0]["targets"] == ["[::1]:20003"]
    assert found["rule_files"] == ["/rules/*.yaml"]


def test_without_a_prometheus_the_error_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotInstalled, match=r"apt install prometheus .* on the PATH"):
        find_prometheus()


def test_a_version_that_cannot_read_our_rules_counts_as_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path, "prometheus, version 2.31.2+ds1 (branch: debian/sid)")
    with pytest.raises(NotInstalled, match=r"2\.31\.2; 2\.42 or newer"):
        find_prometheus()
    program(tmp_path, "prometheus, version 3.1.0 (branch: HEAD)")
    assert find_prometheus() == tmp_path / "prometheus"
