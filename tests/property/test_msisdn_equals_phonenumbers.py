"""Our walk over the numbering plans gives the verdict and the region of phonenumbers itself."""

import phonenumbers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.domain.msisdn import DIGITS_MAX, InvalidMsisdn, parse_msisdn

DIGITS = "0123456789"


def _examples() -> list[tuple[str, str]]:
    """Return (calling code, national number) of every type of every region."""
    numbers = [
        phonenumbers.example_number_for_type(region, number_type)
        for region in sorted(phonenumbers.SUPPORTED_REGIONS)
        for number_type in phonenumbers.PhoneNumberType.values()
    ]
    numbers += [
        phonenumbers.example_number_for_non_geo_entity(code)
        for code in sorted(phonenumbers.COUNTRY_CODES_FOR_NON_GEO_REGIONS)
    ]
    return sorted(
        {
            (str(number.country_code), phonenumbers.national_significant_number(number))
            for number in numbers
            if number is not None
        }
    )


@st.composite
def near_examples(draw):
    """A valid number with some digits changed, a prefix put before it, or its end cut or lengthened."""
    calling_code, number = draw(st.sampled_from(_EXAMPLES))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(number) - 1))
        number = number[:place] + draw(st.sampled_from(DIGITS)) + number[place + 1 :]
    prefix = draw(st.sampled_from(["", "", "", "", "0", "1", "8", "15", "90", "044", "00"]))
    end = draw(st.sampled_from([None, None, None, -1, -2]))
    return f"+{calling_code}{prefix}{number[:end]}{draw(st.sampled_from(['', '', '', '0', '55']))}"


_EXAMPLES = _examples()
_calling_codes = st.sampled_from(sorted(map(str, phonenumbers.COUNTRY_CODE_TO_REGION_CODE)))
numbers = st.one_of(
    near_examples(),
    st.builds("+{}{}".format, _calling_codes, st.text(DIGITS, min_size=1, max_size=14)),
    st.text(DIGITS, min_size=1, max_size=17).map("+{}".format),
)


def verdict_of_phonenumbers(text: str) -> str | None:
    """Return the region; None: invalid, longer than E.164 allows, or not spelled as E.164."""
    try:
        number = phonenumbers.parse(text)
    except phonenumbers.NumberParseException:
        return None
    spelled = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if not phonenumbers.is_valid_number(number) or spelled != text or len(text) > DIGITS_MAX + 1:
        return None
    return phonenumbers.region_code_for_number(number)


def verdict_of_ours(text: str) -> str | None:
    try:
        destination = parse_msisdn(text)
    except InvalidMsisdn:
        return None
    assert destination.e164 == text
    return destination.region


@settings(max_examples=3_000)
@given(numbers)
@example("+4407911123456")
@example("+5215512345678")
@example("+54934315551212")
@example("+390549886377")
@example("+378886377")
def test_the_verdict_and_the_region_are_those_of_phonenumbers(text):
    assert verdict_of_ours(text) == verdict_of_phonenumbers(text)


def test_the_verdict_on_every_example_is_that_of_phonenumbers():
    texts = [f"+{calling_code}{number}" for calling_code, number in _EXAMPLES]
    assert len(texts) > 1_000
    assert [verdict_of_ours(text) for text in texts] == [verdict_of_phonenumbers(text) for text in texts]


@settings(max_examples=1_000)
@given(st.text(st.sampled_from(DIGITS + "+ ()-x;=#*\u0661\uff0b"), max_size=40))
def test_no_other_spelling_is_accepted(text):
    region = verdict_of_ours(text)
    if region is not None:
        assert region == verdict_of_phonenumbers(text)
        assert text[1:].isascii()
        assert text[1:].isdigit()
