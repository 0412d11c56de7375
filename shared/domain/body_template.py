"""The body of a submit, from a template in the carrier's settings.

    {"to": "$msisdn", "text": "$text", "meta": {"ref": "tollwire-$message_id"}, "priority": 1}

A value that is one placeholder keeps the field's type ("$segments" becomes a number); inside a longer
text it is spelled out; "$$" is a dollar sign. A key whose value is one placeholder of an absent field
(`$valid_for_seconds` of a message without a validity) is left out. `$secret` and `$secret.<use>` are texts
of the carrier's sealed secret.
"""

import re
from collections.abc import Callable, Mapping
from operator import attrgetter
from types import MappingProxyType

from shared.domain.carrier_secrets import SUBMIT_SECRET
from shared.domain.submission import Submission

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Fill = Callable[[Submission], Json]
SecretOf = Callable[[str], str]
"""The carrier's secret for a use; ``CarrierSecretMissing``: it has none."""

PLACEHOLDERS: Mapping[str, Fill] = MappingProxyType(
    {
        "message_id": lambda submission: str(submission.message_id),
        "attempt_no": attrgetter("attempt_no"),
        "part_no": attrgetter("part_no"),
        "msisdn": attrgetter("msisdn"),
        "msisdn_digits": lambda submission: submission.msisdn.removeprefix("+"),
        "sender": attrgetter("sender"),
        "text": attrgetter("text"),
        "encoding": attrgetter("encoding"),  # a StrEnum: its value, in JSON as in a text
        "segments": attrgetter("segments"),
        "valid_for_seconds": lambda submission: _whole_seconds(submission.valid_for_seconds),
    }
)
# A template is written by a person; deeper is a slip, and would only slow every message.
DEPTH_MAX = 8

_PLACEHOLDER = re.compile(r"\$(\$|secret(?:\.[a-z_]+)?(?![a-z_])|[a-z_]+)")
_SECRET = re.compile(r"secret(?:\.([a-z_]+))?")


class TemplateFault(ValueError):  # noqa: N818 - named for what it is
    """A placeholder that does not exist, or a template that is too deep."""


def compile_template(
    template: Mapping[str, Json], secret_of: SecretOf = lambda _use: ""
) -> Callable[[Submission], dict[str, Json]]:
    """Return the function that fills the template for a submission.

    Without ``secret_of`` the template is only checked, and the function leaves secrets empty.

    Raises:
        TemplateFault: the template names a field that there is not.
        CarrierSecretMissing: it names a secret that the carrier has not.
    """
    return _compile_object(template, 1, secret_of)


def _compile(value: Json, depth: int, secret_of: SecretOf) -> Fill:
    if depth > DEPTH_MAX:
        raise TemplateFault(f"body: deeper than {DEPTH_MAX} levels")
    if isinstance(value, dict):
        return _compile_object(value, depth, secret_of)
    if isinstance(value, list):
        items = [_compile(item, depth + 1, secret_of) for item in value]
        return lambda submission: [fill(submission) for fill in items]
    if isinstance(value, str):
        return _compile_text(value, secret_of)
    return lambda _: value


def _compile_object(
    template: Mapping[str, Json], depth: int, secret_of: SecretOf
) -> Callable[[Submission], dict[str, Json]]:
    fills = [(key, _compile(value, depth + 1, secret_of)) for key, value in template.items()]
    left_out_when_absent = {key for key, value in template.items() if value is not None}

    def fill_object(submission: Submission) -> dict[str, Json]:
        filled = {key: fill(submission) for key, fill in fills}
        if None in filled.values():
            for key in left_out_when_absent:
                if filled[key] is None:
                    del filled[key]
        return filled

    return fill_object


def _compile_text(text: str, secret_of: SecretOf) -> Fill:
    whole = _PLACEHOLDER.fullmatch(text)
    if whole and whole[1] != "$":
        return _placeholder(whole[1], secret_of)
    fills = {name: _placeholder(name, secret_of) for name in _PLACEHOLDER.findall(text) if name != "$"}
    if not fills:
        constant = text.replace("$$", "$")
        return lambda _: constant

    def fill_text(submission: Submission) -> str:
        spelled = {name: fill(submission) for name, fill in fills.items()}
        return _PLACEHOLDER.sub(lambda match: "$" if match[1] == "$" else _spell(spelled[match[1]]), text)

    return fill_text


def _whole_seconds(seconds: float | None) -> int | None:
    """Rounded down, so that nothing arrives late; 1 at least: 0 is the word of some for their own default."""
    return None if seconds is None else max(int(seconds), 1)


def _spell(value: Json) -> str:
    return "" if value is None else str(value)


def _placeholder(name: str, secret_of: SecretOf) -> Fill:
    if match := _SECRET.fullmatch(name):
        secret = secret_of(match[1] or SUBMIT_SECRET)
        return lambda _: secret
    try:
        return PLACEHOLDERS[name]
    except KeyError:
        known = ", ".join(f"${known}" for known in (*PLACEHOLDERS, "secret"))
        raise TemplateFault(f"body: ${name} is not one of {known}") from None
