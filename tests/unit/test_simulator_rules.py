"""Which message has which outcome in the simulated carrier."""

import csv
from collections import Counter
from pathlib import Path
from uuid import uuid4

import msgspec
import phonenumbers
import pytest

from simulator.magic import AREA_CODES, MAGIC_ENDINGS, magic_number, magic_script
from simulator.outcomes import SCRIPTS, Outcome, script_for
from simulator.rules import Rule, Rules, choose, percent

MESSAGES = Path(__file__).parents[1] / "data" / "messages.csv"
GERMAN = "+4915112345678"
DELIVERED = script_for(Outcome.DELIVERED, None, None)


def test_every_outcome_has_a_script_and_a_magic_number():
    assert set(SCRIPTS) == set(Outcome)
    for outcome in Outcome:
        assert magic_script(magic_number(outcome)) is not None


def test_every_magic_number_is_valid_and_of_the_range_for_fiction():
    for area_code in AREA_CODES:
        for ending in MAGIC_ENDINGS:
            number = phonenumbers.parse(f"+1{area_code}55501{ending}")
            assert phonenumbers.is_valid_number(number)
            assert phonenumbers.region_code_for_number(number) == "US"


def test_no_real_number_of_the_sample_is_magic():
    with MESSAGES.open(encoding="utf-8", newline="") as file:
        assert [row["to"] for row in csv.DictReader(file) if magic_script(row["to"])] == []


@pytest.mark.parametrize(
    "msisdn", ["+12025550", "+1202555010", "+120255501000", "+12025550199", "+12015550100", "+4420255501000"]
)
def test_only_whole_numbers_of_the_range_are_magic(msisdn):
    assert magic_script(msisdn) is None


def test_the_last_digit_says_how_often_or_how_long():
    failing, slow = magic_script("+12025550123"), magic_script("+18085550142")
    assert failing is not None
    assert slow is not None
    assert failing.fails == 3
    assert slow.slow_seconds == 2


def test_magic_numbers_come_before_rules_unless_they_are_off():
    refused = magic_number(Outcome.REFUSED)
    rules = [Rule(outcome=Outcome.SILENT)]
    assert choose(Rules(rules=rules), refused, "m") == SCRIPTS[Outcome.REFUSED]
    assert choose(Rules(rules=rules, magic_numbers=False), refused, "m") == SCRIPTS[Outcome.SILENT]


def test_the_first_rule_that_fits_wins_and_without_one_all_is_delivered():
    rules = Rules(
        rules=[
            Rule(prefix="49", suffix="78", outcome=Outcome.REFUSED),
            Rule(prefix="+49", outcome=Outcome.TEMPORARY, times=4),
            Rule(suffix="00", outcome=Outcome.LATE_RECEIPT, seconds=3),
        ]
    )
    assert choose(rules, GERMAN, "m") == SCRIPTS[Outcome.REFUSED]
    assert choose(rules, "+4915112345679", "m").fails == 4
    assert choose(rules, "+33612345600", "m").receipts[0].after_seconds == 3
    assert choose(rules, "+33612345601", "m") == DELIVERED


def test_a_mix_keeps_its_shares_and_a_message_its_fate():
    mix = {Outcome.REFUSED: 2.0, Outcome.TEMPORARY: 3.0}
    rules = Rules(seed=7, rules=[Rule(mix=mix)])
    ids = [f"id-{number}" for number in range(20_000)]
    drawn = Counter(id(choose(rules, GERMAN, message_id).failure) for message_id in ids)
    shares = [drawn[id(SCRIPTS[outcome].failure)] / len(ids) for outcome in mix]
    assert shares[0] == pytest.approx(0.02, abs=0.005)
    assert shares[1] == pytest.approx(0.03, abs=0.005)
    assert [choose(rules, GERMAN, one) for one in ids[:500]] == [
        choose(rules, GERMAN, one) for one in ids[:500]
    ]


def test_another_seed_gives_other_fates():
    ids = [str(uuid4()) for _ in range(50)]
    assert [percent(1, one) for one in ids] != [percent(2, one) for one in ids]
    assert all(0 <= percent(1, one) < 100 for one in ids)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"rules": [{"outcome": "brilliant"}]}, "brilliant"),
        ({"rules": [{}]}, "either"),
        ({"rules": [{"outcome": "silent", "mix": {"refused": 1}}]}, "either"),
        ({"rules": [{"mix": {"refused": 60, "silent": 41}}]}, "100"),
        ({"rules": [{"mix": {"refused": -1}}]}, "mix"),
        ({"rules": [{"outcome": "silent", "prefix": "abc"}]}, "prefix"),
        ({"latency": 1}, "latency"),
        ({"latency_seconds": -1}, "latency_seconds"),
        ({"bulk_faults": "some"}, "some"),
    ],
)
def test_wrong_rules_are_refused_by_name(written, words):
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.json.decode(msgspec.json.encode(written), type=Rules)
