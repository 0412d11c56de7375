"""What is wrong with a document, field by field: msgspec says only the first fault, people want all.

Nothing here runs for a valid request. After a failed decode the document is walked along its type,
and each fault becomes the field's name and a sentence that says what would be right.
"""

import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec

from api.field_paths import join_path
from api.half_pairs import half_pairs
from api.patterns import right_of
from api.problems import FIELD_ERRORS_MAX, FieldError, Refusal, invalid
from shared.domain.problems import ProblemCode

# A full batch of texts of one segment, and one whose messages have every field and a dozen commas in each
# text. Of a larger body nothing is made: it may have 700,000 values, and while they are made and looked at
# nobody else is answered. So many take 15 ms.
DOCUMENT_MAX_BYTES = 256 * 1024
DOCUMENT_VALUES_MAX = 25_000
RFC3339 = "must be an RFC 3339 time with a time zone, as in 2026-11-21T10:00:00Z"
# A raw plus of a query is a space.
IN_A_QUERY = "; the + of a zone is %2B in a URL"

_PATTERN = re.compile(r"Expected `\w+` matching regex .+")
_WRONG_KIND = re.compile(r"Expected `(.+)`, got `(.+)`")
_WRONG_LENGTH = re.compile(r"Expected `array` of length [^`]+")
_MALFORMED = "JSON is malformed: "
_TRUNCATED = "Input data was truncated"
# The kinds of values in JSON's words, as what is right and as what came.
_RIGHT_KINDS = {
    "str": "a string", "int": "an integer", "float": "a number", "bool": "true or false",
    "object": "an object", "array": "an array",
}  # fmt: skip
_WRONG_KINDS = _RIGHT_KINDS | {"float": "a decimal number", "bool": "a boolean"}
# What stands in a URL is a text whatever it should be.
_IN_A_URL = ("query.", "path.")
_AT = re.compile(r" - at `\$?\.?(?P<path>[^`]*)`$")
_STEP = re.compile(r"\[[^]]*\]|[^.\[]+")
_UNKNOWN = re.compile(r"Object contains unknown field `(.+)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.+)`")
_WORDS = (
    (re.compile(r"Expected `datetime( \| null)?`.+|Invalid RFC3339 .+"), RFC3339),
    (re.compile(r"Expected `uuid`.*|Invalid UUID"), "must be a UUID"),
    (re.compile(r"Expected `array` of length (.+)"), r"must have \1 items"),
    (re.compile(r"Expected `str` of length >= 1"), "must not be empty"),
    (re.compile(r"Expected `str` of length >= (.+)"), r"must have at least \1 characters"),
    (re.compile(r"Expected `str` of length <= (.+)"), r"must have at most \1 characters"),
    (re.compile(r"Expected `\w+` of length (.+)"), r"must have a length \1"),
    (re.compile(r"Expected `\w+` (.+)"), r"must be \1"),
    (re.compile(r"Object missing required field `.+`"), "is required"),
)


def refuse_body(error: Exception, raw: bytes, kind: Any) -> Refusal:
    """The refusal of a body that is not a ``kind``: 400 if it is not JSON, else 422 with each field.

    Of a large one with the first field: ``error`` is what the decode into ``kind`` said.
    """
    is_large = _is_large(raw)
    try:
        # As Raw it is read, and no values are made.
        document = msgspec.json.decode(raw, type=msgspec.Raw if is_large else Any)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        if not is_large and (halves := list(islice(half_pairs(raw), FIELD_ERRORS_MAX))):
            return invalid(halves)
        return Refusal(ProblemCode.INVALID_JSON, reason=_why_no_json(fault, raw))
    return invalid([_first(error, kind)] if is_large else _found(error, document, kind, where=""))


def _is_large(raw: bytes) -> bool:
    """Whether it is too much to be looked at; each of its values follows a comma or a bracket."""
    return len(raw) > DOCUMENT_MAX_BYTES or sum(map(raw.count, b",[{")) > DOCUMENT_VALUES_MAX


def _first(error: Exception, kind: Any) -> FieldError:
    """The fault that ended a decode into ``kind``, in the words of a walk."""
    text, path = str(error), ""
    if match := _AT.search(text):
        text, path = text[: match.start()], match["path"]
    kind = _kind_at(kind, path)
    if match := _MISSING.fullmatch(text):
        return FieldError(join_path(path, match[1]), "is required")
    if (match := _UNKNOWN.fullmatch(text)) and (structs := _structs(kind)):
        return _no_field(join_path(path, match[1]), _fields(structs[0]))
    error = msgspec.ValidationError(text)
    return _of_value(error, None, kind, path)


def _kind_at(kind: Any, path: str) -> Any:
    """The type of a value in a ``kind``: of `messages[3].to` what a message's `to` is."""
    for step in _STEP.findall(path):
        kinds = alternatives(kind)
        if step.startswith("["):
            kind = next((typing.get_args(other)[0] for other in kinds if typing.get_args(other)), Any)
        else:
            kind = next((_fields(k)[step].type for k in _structs(kind) if step in _fields(k)), Any)
    return kind


def _structs(kind: Any) -> list[type[msgspec.Struct]]:
    return [other for other in alternatives(kind) if hasattr(other, "__struct_config__")]


def _fields(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def _no_field(path: str, fields: Iterable[str]) -> FieldError:
    return FieldError(path or '""', f"is not a field here; the fields are {', '.join(fields)}")


def _why_no_json(fault: Exception, raw: bytes) -> str:
    """What ends the reading, with the byte, counted from 0, where one is to blame."""
    if isinstance(fault, RecursionError):
        return "it is nested too deeply"
    if isinstance(fault, UnicodeDecodeError):
        # msgspec counts from the beginning of the text that the byte stands in.
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            return f"0x{raw[error.start]:02x} is not UTF-8 there (byte {error.start})"
    if str(fault) == _TRUNCATED:
        return f"it ends too early (byte {len(raw)})" if raw else "it is empty"
    return _AT.sub("", str(fault)).removeprefix(_MALFORMED)


def refuse_values(error: Exception, values: Mapping[str, Any], kind: Any, *, where: str) -> Refusal:
    """The refusal of values, such as query parameters, that are not a ``kind``; ``where`` they stand."""
    return invalid(_found(error, dict(values), kind, where=where))


def _found(error: Exception, document: Any, kind: Any, *, where: str) -> list[FieldError]:
    faults = _faults(document, kind, where)
    return list(islice(faults, FIELD_ERRORS_MAX)) or [_in_words(error, where)]


def _faults(document: Any, kind: Any, path: str) -> Iterator[FieldError]:
    """Every fault of a document, in its order."""
    kinds = alternatives(kind)
    struct = next((k for k in kinds if _is_struct_for(document, k)), None)
    array = next((k for k in kinds if typing.get_origin(k) is list), None)
    if struct is not None and isinstance(document, dict):
        yield from _object_faults(document, struct, path)
        return
    found = False
    if array is not None and isinstance(document, list) and _has_its_length(document, kind):
        item_kind = typing.get_args(array)[0]
        # msgspec tells the good items from the bad a hundred times faster than they are walked.
        for index, item in enumerate(document):
            for fault in _faults(item, item_kind, f"{path}[{index}]") if _refused(item, item_kind) else ():
                found = True
                yield fault
    if not found and (error := _refused(document, kind)):
        yield _of_value(error, document, kind, path)


def _of_value(error: Exception, document: Any, kind: Any, path: str) -> FieldError:
    """The fault of a value that is no ``kind``, as msgspec refused it."""
    return (
        _choice(document, kind, path)
        or _of_pattern(error, kind, path)
        or _of_kind(error, kind, path)
        or _in_words(error, path)
    )


def _refused(document: Any, kind: Any) -> msgspec.ValidationError | None:
    """What is said where a document is no ``kind``; None: it is one."""
    try:
        msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        return error
    return None


def _has_its_length(document: list[Any], kind: Any) -> bool:
    """Whether a list has as many items as it may: msgspec looks at that before it looks at them."""
    error = _refused(document, kind)
    return error is None or _WRONG_LENGTH.fullmatch(str(error)) is None


def _choice(document: Any, kind: Any, path: str) -> FieldError | None:
    """The fault where one of a few words is right: of a text, or of the tag that tells objects apart."""
    if isinstance(document, dict):
        configs = [struct.__struct_config__ for struct in _structs(kind)]
        tags = {config.tag_field: [other.tag for other in configs] for config in configs if config.tag_field}
        return next((_one_of(join_path(path, name), words) for name, words in tags.items()), None)
    words = [
        word
        for other in alternatives(kind)
        if typing.get_origin(other) is typing.Literal
        for word in typing.get_args(other)
    ]
    return _one_of(path, words) if words else None


def _one_of(path: str, words: list[Any]) -> FieldError:
    some = "one of " if len(words) > 1 else ""
    return FieldError(path or "body", f"must be {some}{', '.join(str(word) for word in words)}")


def _is_struct_for(document: Any, kind: Any) -> bool:
    """Whether an object is to be read as this; where several are told apart by a tag, by its tag."""
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return False
    config = kind.__struct_config__
    return config.tag_field is None or (
        isinstance(document, dict) and document.get(config.tag_field) == config.tag
    )


def _object_faults(document: dict[str, Any], kind: type[msgspec.Struct], path: str) -> Iterator[FieldError]:
    fields = _fields(kind)
    for name, field in fields.items():
        if name in document:
            yield from _faults(document[name], field.type, join_path(path, name))
        elif field.required:
            yield FieldError(join_path(path, name), "is required")
    if not kind.__struct_config__.forbid_unknown_fields:
        return
    for name in document:
        if name not in fields and name != kind.__struct_config__.tag_field:
            yield _no_field(join_path(path, name), fields)


def alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union, without their annotations."""
    if typing.get_origin(kind) is typing.Annotated:
        return alternatives(typing.get_args(kind)[0])
    if typing.get_origin(kind) in {typing.Union, types.UnionType}:
        return tuple(member for arg in typing.get_args(kind) for member in alternatives(arg))
    return (kind,)


def _of_pattern(error: Exception, kind: Any, path: str) -> FieldError | None:
    """The fault of a text that is not of its form, by the sentence that stands beside the pattern."""
    right = right_of(kind) if _PATTERN.fullmatch(str(error)) else None
    return None if right is None else FieldError(path or "body", right)


def _of_kind(error: Exception, kind: Any, path: str) -> FieldError | None:
    """The fault of a value of another kind, such as a number for a text, and what the text would be."""
    match = _WRONG_KIND.fullmatch(str(error))
    right = right_of(kind) if match is not None else None
    if match is None or right is None:
        return None
    return FieldError(path or "body", f"{_kinds_in_words(match, path)}; it {right}")


def _kinds_in_words(match: re.Match[str], path: str) -> str:
    right = " or ".join(_RIGHT_KINDS.get(kind, kind) for kind in match[1].split(" | "))
    if path.startswith(_IN_A_URL):
        return f"must be {right}"
    return f"must be {right}, not {_WRONG_KINDS.get(match[2], match[2])}"


def _in_words(error: Exception, path: str) -> FieldError:
    text = str(error)
    if match := _AT.search(text):
        text = text[: match.start()]
        path = join_path(path, match["path"])
    for pattern, words in _WORDS:
        if match := pattern.fullmatch(text):
            more = IN_A_QUERY if words is RFC3339 and path.startswith("query.") else ""
            return FieldError(path or "body", match.expand(words) + more)
    if match := _WRONG_KIND.fullmatch(text):
        return FieldError(path or "body", _kinds_in_words(match, path))
    return FieldError(path or "body", text)
