import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import phonenumbers
import pytest

from shared.domain.msisdn import InvalidMsisdn, Msisdn, parse_msisdn
from shared.domain.numbering import calling_code_of, load_plans, numbering_plan

MESSAGES = Path(__file__).parent.parent / "data" / "messages.csv"
# The file names the region whose example the number is. These regions share mobile numbers with another
# (seven of the nine examples are the other's example too), and phonenumbers names that other one.
SHARED = {
    ("AX", "FI"),
    ("BL", "GP"),
    ("CC", "AU"),
    ("CX", "AU"),
    ("EH", "MA"),
    ("IM", "GB"),
    ("MF", "GP"),
    ("SJ", "NO"),
    ("VA", "IT"),
}


def rows() -> list[dict[str, str]]:
    with MESSAGES.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_of_5000_numbers_of_244_regions_is_accepted_as_it_is_written():
    numbers = [row["to"] for row in rows()]
    assert [parse_msisdn(number).e164 for number in numbers] == numbers
    assert len(numbers) == 5_000


def test_each_of_5000_numbers_has_its_region_or_the_one_it_shares_its_numbers_with():
    regions = Counter((row["region"], parse_msisdn(row["to"]).region) for row in rows())
    assert {pair for pair in regions if pair[0] != pair[1]} == SHARED
    assert sum(count for (named, found), count in regions.items() if named == found) == 4_804
    for row in rows():
        assert phonenumbers.is_valid_number_for_region(phonenumbers.parse(row["to"]), row["region"])


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("+4915112345678", "DE"),
        ("+12015550123", "US"),
        ("+18765551234", "JM"),
        ("+447400123456", "GB"),
        ("+447911123456", "GG"),
        ("+447624123456", "IM"),
        ("+77012345678", "KZ"),
        ("+79161234567", "RU"),
        ("+390612345678", "IT"),
        ("+2902345", None),
        ("+6834002", "NU"),
        ("+881612345678", "001"),
        ("+5491123456789", "AR"),
    ],
)
def test_numbers_that_share_a_calling_code_are_told_apart(text, region):
    if region is None:
        with pytest.raises(InvalidMsisdn):
            parse_msisdn(text)
    else:
        assert parse_msisdn(text) == Msisdn(text, region)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "like \\+4915112345678"),
        ("+", "like \\+4915112345678"),
        ("4915112345678", "like \\+4915112345678"),
        ("004915112345678", "like \\+4915112345678"),
        ("+04915112345678", "like \\+4915112345678"),
        ("+49151ABC45678", "like \\+4915112345678"),
        ("tel:+4915112345678", "like \\+4915112345678"),
        ("+4915112345678;ext=1", "like \\+4915112345678"),
        ("+4915112345678\n", "write \\+4915112345678"),
        ("+49 151 12345678", "write \\+4915112345678"),
        ("+49 (151) 123-456.78", "write \\+4915112345678"),
        ("+\u0664\u0669151", "like \\+4915112345678"),
        ("\uff0b4915112345678", "like \\+4915112345678"),
        ("+4915112345678901234", "at most 15 digits, this one has 19"),
        ("+999123456789", "no country has a code"),
        ("+210123456789", "no country has a code"),
        ("+4407911123456", "write \\+447911123456"),
        ("+4411", "7 to 10 digits, not 2; an example is \\+447400123456"),
        ("+12015", "10 digits, not 4; an example is \\+1201555"),
        ("+15555555555", "no range that is in use; an example is \\+1201555"),
        ("+" + "1" * 100_000, "at most 15 digits"),
    ],
)
def test_a_refusal_says_what_would_be_right(text, hint):
    with pytest.raises(InvalidMsisdn, match=hint) as refusal:
        parse_msisdn(text)
    assert len(str(refusal.value)) < 160


def test_importing_the_module_does_not_load_the_metadata():
    program = "import sys, shared.domain.msisdn; sys.exit('phonenumbers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 0


def test_every_plan_can_be_loaded_ahead():
    assert load_plans() == len(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)


def test_a_plan_of_no_country_is_refused():
    assert calling_code_of("999") is None
    assert calling_code_of("") is None
    with pytest.raises(KeyError):
        numbering_plan("999")
