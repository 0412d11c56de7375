"""The world's numbering plans, read from the metadata of ``phonenumbers`` and compiled once.

``phonenumbers`` takes 50 to 200 µs to parse and check one number, which at 3,000 messages a second is a
third of a core. The rules are its own and so are the patterns; only the walk over them is ours: one
compiled pattern for each region and length, so that a number costs about 2 µs. A property test proves
both equal.

Nothing is loaded at import. A calling code's plan is read when its first number comes (a few
milliseconds; ``load_plans`` does it for all at start-up), and there are never more plans than calling
codes in the metadata (about 230) nor more patterns in one than lengths of a number.
"""

import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phonenumbers import PhoneMetadata, PhoneNumberDesc

# ITU-T E.164: a country code has at most three digits and is no prefix of another.
_CALLING_CODE_DIGITS_MAX = 3
# What a number can begin with: up to three digits, the first of which is no 0.
_HEADS_MAX = 999
# The lengths that phonenumbers itself lets through before it asks the metadata.
_NATIONAL_DIGITS = range(2, 18)
# Worldwide codes, such as those of satellites, belong to no region.
_WORLDWIDE = "001"


class NumberingPlan:
    """The numbers behind one calling code, of the one or more regions that share it.

    Numbers are given and answered without the calling code, as digits.
    """

    __slots__ = ("_general", "_prefix", "_regions", "_transform", "calling_code", "example", "lengths")

    def __init__(self, calling_code: str, regions: list["PhoneMetadata"]) -> None:
        """``regions`` in the order of the metadata, the main one first."""
        main = regions[0]
        self.calling_code = calling_code
        # A region that has its calling code to itself is found without looking at its leading digits.
        self._regions = [_Region(metadata, is_alone=len(regions) == 1) for metadata in regions]
        self._general = _general(main)
        self.lengths = self._general.possible_length
        self._prefix = re.compile(main.national_prefix_for_parsing or r"(?!)")
        self._transform = main.national_prefix_transform_rule
        self.example = _example(calling_code, main)

    def region_of(self, number: str) -> str | None:
        """Return the region (ISO 3166; "001" for worldwide codes) of a valid number; None: not valid."""
        for region in self._regions:
            if region.leading_digits is None:
                if region.is_valid(number):
                    return region.code
            elif region.leading_digits.match(number):
                return region.code if region.is_valid(number) else None
        return None

    def without_national_prefix(self, number: str) -> str:
        """Return the number as it is dialled from abroad: +44 (0)7911… has a zero too many."""
        match = self._prefix.match(number)
        if match is None:
            return number
        if self._transform and match[self._prefix.groups] is not None:
            stripped = self._prefix.sub(self._transform, number, count=1)
        else:
            stripped = number[match.end() :]
        pattern = self._general.national_number_pattern or r"(?!)"
        if re.fullmatch(pattern, number) and not re.fullmatch(pattern, stripped):
            return number
        return stripped if self._may_be_whole(len(stripped)) else number

    def compile_mobile_lengths(self) -> None:
        """Compile what the mobile numbers of each region need, ahead of the first of them."""
        for region in self._regions:
            region.compile_mobile_lengths()

    def _may_be_whole(self, length: int) -> bool:
        """True for a possible length and for one that is too long, which is refused as it stands."""
        if length in self._general.possible_length_local_only:
            return False
        return length in self.lengths or length > self.lengths[-1]


class _Region:
    __slots__ = ("_matchers", "_metadata", "code", "leading_digits")

    def __init__(self, metadata: "PhoneMetadata", *, is_alone: bool) -> None:
        self.code = metadata.id
        self.leading_digits = (
            None if is_alone or metadata.leading_digits is None else re.compile(metadata.leading_digits)
        )
        self._metadata = metadata
        self._matchers: dict[int, Callable[[str], object]] = {}

    def is_valid(self, number: str) -> bool:
        length = len(number)
        matcher = self._matchers.get(length)
        if matcher is None:
            if length not in _NATIONAL_DIGITS:
                return False
            matcher = self._matchers[length] = _matcher(self._metadata, length)
        return matcher(number) is not None

    def compile_mobile_lengths(self) -> None:
        mobile = self._metadata.mobile
        for length in mobile.possible_length if mobile else ():
            self.is_valid("0" * length)


@cache
def _calling_codes() -> frozenset[str]:
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    return frozenset(map(str, COUNTRY_CODE_TO_REGION_CODE))


@cache
def regions() -> frozenset[str]:
    """Return the regions that numbers are of, as ISO 3166-1 names them: two letters."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    return frozenset(region for shared in COUNTRY_CODE_TO_REGION_CODE.values() for region in shared) - {
        _WORLDWIDE
    }


def calling_code_of(digits: str) -> str | None:
    """Return the calling code that an international number (without its plus) begins with."""
    calling_codes = _calling_codes()
    for length in range(1, _CALLING_CODE_DIGITS_MAX + 1):
        if digits[:length] in calling_codes:
            return digits[:length]
    return None


@cache
def numbering_plan(calling_code: str) -> NumberingPlan:
    """Return the plan of a calling code that ``calling_code_of`` named.

    Raises:
        KeyError: there is no such calling code.
    """
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

    number = int(calling_code)
    regions = [
        PhoneMetadata.metadata_for_region_or_calling_code(number, region)
        for region in COUNTRY_CODE_TO_REGION_CODE[number]
    ]
    return NumberingPlan(calling_code, [metadata for metadata in regions if metadata is not None])


def plan_of(digits: str) -> NumberingPlan | None:
    """Return the plan of an international number (without its plus); None: no country has its code."""
    return _plan_of_head(digits[:_CALLING_CODE_DIGITS_MAX])


# Digits alone come here, so there are some thousand heads at most; whatever else came would be forgotten.
@lru_cache(maxsize=_HEADS_MAX)
def _plan_of_head(head: str) -> NumberingPlan | None:
    calling_code = calling_code_of(head)
    return None if calling_code is None else numbering_plan(calling_code)


def load_plans() -> int:
    """Load every plan and compile what its mobile numbers need, so that no message waits for it.

    Returns the number of plans.
    """
    for calling_code in _calling_codes():
        numbering_plan(calling_code).compile_mobile_lengths()
    return len(_calling_codes())


def _general(metadata: "PhoneMetadata") -> "PhoneNumberDesc":
    if metadata.general_desc is None:
        raise ValueError(f"the metadata of {metadata.id} has no general description")
    return metadata.general_desc


def _matcher(metadata: "PhoneMetadata", length: int) -> Callable[[str], object]:
    """Compile "fits the general description and one of the types" for numbers of one length."""
    general = _general(metadata)
    fitting = [
        f"(?:{desc.national_number_pattern})"
        for desc in _types(metadata)
        if desc is not None
        and desc.national_number_pattern
        and (not desc.possible_length or length in desc.possible_length)
    ]
    if not fitting or (general.possible_length and length not in general.possible_length):
        return re.compile(r"(?!)").fullmatch
    return re.compile(rf"(?=(?:{general.national_number_pattern})\Z)(?:{'|'.join(fitting)})").fullmatch


def _types(metadata: "PhoneMetadata") -> tuple["PhoneNumberDesc | None", ...]:
    """Return the descriptions that make a number valid; emergency and short numbers are not among them."""
    return (
        metadata.mobile,
        metadata.fixed_line,
        metadata.premium_rate,
        metadata.toll_free,
        metadata.shared_cost,
        metadata.voip,
        metadata.personal_number,
        metadata.pager,
        metadata.uan,
        metadata.voicemail,
    )


def _example(calling_code: str, metadata: "PhoneMetadata") -> str:
    for desc in _types(metadata):
        if desc is not None and desc.example_number:
            return f"+{calling_code}{desc.example_number}"
    return f"+{calling_code}…"
