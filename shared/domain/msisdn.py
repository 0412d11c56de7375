"""Destinations in E.164, checked against the numbering plan of their country.

**Which verdict.** A number is accepted when it is *valid* in the sense of ``phonenumbers``: it fits an
allocated range of the plan of its region, not only the plan's lengths (*possible*). Traffic to ranges
that nobody was given is what SMS pumping is made of, and a number that no phone can have would only cost
a hold and a submit to learn it. The price is that a range opened last week needs a new release of the
metadata; until then its numbers are refused before any money moves.

**As it is dialled.** Only the E.164 spelling is accepted: a plus, the country code, digits. What
``phonenumbers`` would repair (spaces, +44 (0)…, the 1 that Mexico dropped) is refused with the right
spelling in the message, since a silently changed destination is another destination for opt-out lists,
receipts and the client's own records.

**Region.** The region is ``phonenumbers.region_code_for_number``. Regions that share numbers, not only a
calling code, cannot be told apart: a mobile number of Svalbard is Norwegian, one of the Åland islands
Finnish. "001" stands for worldwide codes (satellite, +882, +883).

The one difference from ``phonenumbers``: more than 15 digits are refused, as E.164 says. Its metadata
knows longer ones in a few plans, which no carrier takes as a destination.
"""

import re

from msgspec import Struct

from shared.domain.numbering import NumberingPlan, plan_of

# ITU-T E.164, 6.2.1.
DIGITS_MAX = 15
# A message that repeats its input repeats no more than this of it.
_SHOWN_CHARACTERS_MAX = 24

# What a number looks like, whether any plan has it or not.
E164_PATTERN = r"^\+[1-9][0-9]{1,14}$"
_E164 = re.compile(r"\+[1-9][0-9]+")
_PUNCTUATION = re.compile(r"[\s().\-/]")


class InvalidMsisdn(ValueError):  # noqa: N818 - named for what happened
    """The destination is no phone number in E.164; the message says what would be right."""


class Msisdn(Struct, frozen=True, gc=False):
    """A destination: ``e164`` with its plus, ``region`` as ISO 3166 alpha-2 (or "001")."""

    e164: str
    region: str


def is_e164(text: str) -> bool:
    """Whether a text is spelled as E.164; a number that left its plan since it was stored is, too."""
    return len(text) <= DIGITS_MAX + 1 and _E164.fullmatch(text) is not None


def parse_msisdn(text: str) -> Msisdn:
    """Return the destination that a text in E.164 names.

    Raises:
        InvalidMsisdn: the text is spelled otherwise, or is no valid number of its country.
    """
    if not is_e164(text):
        raise InvalidMsisdn(_why_not_e164(text))
    plan = plan_of(text[1:])
    if plan is None:
        raise InvalidMsisdn(f"no country has a code that {text[:4]} begins with")
    number = text[1 + len(plan.calling_code) :]
    if plan.without_national_prefix(number) == number:
        region = plan.region_of(number)
        if region is not None:
            return Msisdn(text, region)
    raise InvalidMsisdn(_why_not_valid(plan, number))


def _why_not_e164(text: str) -> str:
    bare = _PUNCTUATION.sub("", text)
    if bare != text and _E164.fullmatch(bare):
        return f"a number has digits only: write {bare[: DIGITS_MAX + 1]}"
    if text.startswith("+") and text[1:].isdecimal() and len(text) > DIGITS_MAX + 1:
        return f"a number has at most {DIGITS_MAX} digits, this one has {len(text) - 1}"
    shown = text[:_SHOWN_CHARACTERS_MAX]
    return f"a number is a plus, the country code and digits, like +4915112345678, not {shown!r}"


def _why_not_valid(plan: NumberingPlan, number: str) -> str:
    stripped = plan.without_national_prefix(number)
    if stripped != number and plan.region_of(stripped) is not None:
        return f"the national prefix does not belong into it: write +{plan.calling_code}{stripped}"
    if len(number) not in plan.lengths:
        shortest, longest = plan.lengths[0], plan.lengths[-1]
        lengths = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
        reason = f"after +{plan.calling_code} come {lengths} digits, not {len(number)}"
    else:
        reason = f"+{plan.calling_code}{number} is in no range that is in use"
    return f"{reason}; an example is {plan.example}"
