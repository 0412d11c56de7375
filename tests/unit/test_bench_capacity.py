"""docs/scaling.md is what its inputs say, and every input matters."""

import msgspec
import pytest
import yaml

from bench.capacity.inputs import Assumed, measured_of, read_assumed, read_measured
from bench.capacity.sizes import Sizing
from bench.capacity.tables import DOCUMENT, POLICIES, VOLUMES_MILLION_A_DAY, sheet, tables, written
from cli.env_example import text as env_example

HUNDRED_MILLION = 100e6
PROFILE = DOCUMENT.parents[1] / "charts" / "tollwire" / "values-100m-a-day.yaml"


def test_the_document_is_what_the_inputs_say() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert written(read_measured(), read_assumed(), text) == text, "write it anew: python -m bench.capacity"


NUMBERS = [(section, name) for section, found in read_assumed().sections().items() for name in found]


def changed(section: str, name: str, factor: float) -> Assumed:
    plain = msgspec.to_builtins(read_assumed())
    plain[section][name]["value"] *= factor
    return msgspec.convert(plain, Assumed)


def computed(assumed: Assumed) -> dict[str, str]:
    found = tables(read_measured(), assumed, VOLUMES_MILLION_A_DAY)
    del found["assumptions"]
    return found


@pytest.mark.parametrize(("section", "name"), [pair for pair in NUMBERS if pair[0] != "cell"])
def test_every_assumption_changes_something(section: str, name: str) -> None:
    # Machines come in steps, and the larger of two needs counts: one way may change nothing.
    assert any(
        computed(changed(section, name, factor)) != computed(read_assumed()) for factor in (10.0, 0.05, 100.0)
    )


@pytest.mark.parametrize("name", read_assumed().cell)
def test_every_limit_of_a_cell_holds(name: str) -> None:
    cell = Sizing(read_measured(), read_assumed(), "lean").cell(HUNDRED_MILLION)
    lowered = Sizing(read_measured(), changed("cell", name, 1e-3), "lean")
    assert name in lowered.limits_passed(cell)
    with pytest.raises(ValueError, match="limits"):
        Sizing(read_measured(), changed("cell", name, 0.0), "lean").cells_for(HUNDRED_MILLION)


def test_no_cell_passes_a_limit_and_one_cell_less_would() -> None:
    measured, assumed = read_measured(), read_assumed()
    for policy in POLICIES:
        sizing = Sizing(measured, assumed, policy)
        for million in (100.0, 500.0):
            cells = sheet(measured, assumed, million, policy).cells
            assert sizing.limits_passed(cells[0]) == []
            total = sum(cell.messages_a_day for cell in cells)
            assert total == pytest.approx(million * 1e6)
            if len(cells) > 1:
                assert sizing.limits_passed(sizing.cell(total / (len(cells) - 1)))


def test_the_usual_retention_is_that_of_the_settings() -> None:
    defaults = dict(
        line.removeprefix("# ").split("=", 1) for line in env_example().splitlines() if "=" in line
    )
    for kept in read_assumed().kept:
        if kept.setting.startswith("TOLLWIRE_"):
            assert kept.days["usual"] == float(defaults[kept.setting])


def test_every_table_that_was_measured_is_kept_for_some_time() -> None:
    # The outbox holds a row only until its message is sent.
    named = {table for kept in read_assumed().kept for table in kept.tables} | {"tollwire.outbox"}
    assert {name for name in read_measured().kept_bytes if "." in name} <= named


def test_figures_are_taken_from_a_run_of_the_bench() -> None:
    rows = [
        {"scenario": "keeping", "name": name, "spread": {"median": value}}
        for name, value in (
            ("CPU of api", 7.0), ("memory of api", 8.0), ("kept in tollwire.messages", 0.2), ("WAL", 5.5),
        )
    ]  # fmt: skip
    run = {"commit": "0123456789", "cores": 4, "figures": rows}
    found = measured_of(msgspec.json.encode(run))
    assert (found.cpu_us, found.wal_bytes, found.kept_bytes) == (
        {"api": 7.0}, 5500.0, {"tollwire.messages": 200.0},
    )  # fmt: skip
    with pytest.raises(ValueError, match="keeping"):
        measured_of(msgspec.json.encode({**run, "figures": []}))


def test_the_profile_of_the_chart_has_room_for_what_is_computed() -> None:
    values = yaml.safe_load(PROFILE.read_text(encoding="utf-8"))
    cell = Sizing(read_measured(), read_assumed(), "lean").cell(HUNDRED_MILLION)
    cnpg, nats = values["postgresql"]["cnpg"], values["nats"]
    assert float(cnpg["storage"]["size"].removesuffix("Ti")) * 2**40 >= cell.database.disk_tb * 1e12
    assert int(cnpg["resources"]["requests"]["cpu"]) >= cell.database.vcpu
    assert int(cnpg["parameters"]["max_connections"]) >= cell.database.connections
    assert nats["storeBytes"] >= cell.nats.store_gb * 1e9
    kept = {one.setting: one.days["lean"] for one in read_assumed().kept}
    archive = values["ledger"]["archive"]
    assert (archive["dropAfterDays"], archive["entriesDays"]) == (
        kept["TOLLWIRE_DROP_AFTER_DAYS"], kept["TOLLWIRE_ENTRIES_DAYS"],
    )  # fmt: skip
