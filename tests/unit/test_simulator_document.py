"""docs/simulator.md says what the code does."""

import re
from pathlib import Path

import msgspec
import pytest

from simulator.magic import MAGIC_ENDINGS, magic_number, magic_script
from simulator.outcomes import Outcome
from simulator.rules import Rules
from simulator.settings import Settings
from worker.carriers.simulated import simulator_carrier_settings
from worker.carriers.verdicts import default_verdict

DOCUMENT = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d\d)(?:–(\d\d))? \| (\+\d+) \| `(\w+)` \|", DOCUMENT, re.MULTILINE)
EXAMPLES = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)


def test_the_table_of_magic_numbers_is_whole():
    written = [f"{code:02}" for first, last, *_ in ROWS for code in range(int(first), int(last or first) + 1)]
    assert written == sorted(MAGIC_ENDINGS)
    assert sorted(name for *_, name in ROWS) == sorted(Outcome)


@pytest.mark.parametrize(("first", "last", "example", "name"), ROWS)
def test_each_example_of_a_magic_number_is_right(first, last, example, name):
    outcome = Outcome(name)
    assert first <= example[-2:] <= (last or first)
    assert magic_script(example) == magic_script(magic_number(outcome, int(example[-1]) or 1))


def test_the_examples_are_read_by_the_code():
    rules, settings = EXAMPLES
    assert msgspec.json.decode(rules, type=Rules).rules[-1].mix == {Outcome.TEMPORARY: 3, Outcome.REFUSED: 2}
    assert msgspec.json.decode(settings) == simulator_carrier_settings("http://127.0.0.1:8190")


def test_every_rule_and_setting_is_named():
    for field in Rules.__struct_fields__:
        assert f"`{field}`" in DOCUMENT
    for field in Settings.__struct_fields__:
        assert not field.startswith("simulator") or f"`TOLLWIRE_{field.upper()}`" in DOCUMENT


def test_the_statuses_called_temporary_are_those_that_are():
    (written,) = re.findall(r"^\| (401, [\d, ]+) \| temporary", DOCUMENT, re.MULTILINE)
    temporary = {s for s in range(100, 1_000) if default_verdict(s, asks_to_wait=False) == "temporary"}
    assert {int(status) for status in written.split(", ")} == temporary
