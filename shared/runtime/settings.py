"""Settings from the environment: one frozen struct a service, every error at once, in plain words.

A field ``postgres_dsn`` is read from ``TOLLWIRE_POSTGRES_DSN``. Its type and ``msgspec.Meta`` say what
is right; ``Meta(description=...)`` is the line in ``.env.example``; ``extra={"secret": True}`` keeps the
value out of errors and logs, and lets ``TOLLWIRE_POSTGRES_DSN_FILE`` name a file that holds it, as
Kubernetes and Docker mount secrets; ``extra={"right": ...}`` says what is right where the type does not, and
``extra={"check": ...}`` raises ValueError for a value, or for one of a list, that is not.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, cast, get_type_hints

import msgspec
from msgspec import Meta, inspect

from shared.runtime.addresses import check_host
from shared.runtime.places import check_file, check_folder

PREFIX: Final = "TOLLWIRE_"
# What a value may hold; the longest real one is a DSN with several hosts.
VALUE_CHARS_MAX: Final = 4096
# Names a file that holds the secret, behind the name of the setting itself.
FILE: Final = "_FILE"

S = TypeVar("S", bound=msgspec.Struct)

SECRET: Final = {"secret": True}
Port = Annotated[int, Meta(ge=0, le=65535)]
Level = Literal["debug", "info", "warning", "error"]
# What is looked at only later (to listen, to write) is refused here, where its name is known.
Host = Annotated[
    str,
    Meta(extra={"check": check_host, "right": "an address or a name of this machine, as 127.0.0.1 or ::"}),
]
Folder = Annotated[str, Meta(extra={"check": check_folder, "right": "the path of a folder"})]
File = Annotated[str, Meta(extra={"check": check_file, "right": "the path of a file"})]


class SettingsError(Exception):
    """Some settings are missing or wrong; the message has a line for each of them."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class _WrongPartError(ValueError):
    """One part of a list is not right."""

    def __init__(self, part: str) -> None:
        super().__init__(part)
        self.part = part


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """What every process of ours can be told."""

    log_level: Annotated[Level, Meta(description="The least important log line to write.")] = "info"
    health_port: Annotated[
        Port, Meta(description="Port of /healthz, /readyz and /metrics. 0: any free one.")
    ] = 9464
    health_host: Annotated[Host, Meta(description="Address that the health port listens on.")] = "127.0.0.1"
    commit: Annotated[
        str, Meta(description="The commit that runs, for tollwire_build_info; the image knows its own.")
    ] = "unknown"
    crash_point: Annotated[
        str, Meta(description="For tests only: kill the process at this named place. Empty: never.")
    ] = ""

    def __repr__(self) -> str:
        """Show the settings without their secrets: they end up in logs and tracebacks."""
        hints = get_type_hints(type(self), include_extras=True)
        shown = ("***" if _is_secret(hints[name]) else repr(getattr(self, name)) for name in hints)
        pairs = (f"{name}={value}" for name, value in zip(hints, shown, strict=True))
        return f"{type(self).__name__}({', '.join(pairs)})"


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable, as ``.env.example`` and the documents show it."""

    variable: str
    description: str
    right: str
    default: str | None
    is_secret: bool

    @property
    def is_required(self) -> bool:
        """True when the service does not start without it."""
        return self.default is None


def load(kind: type[S], environ: Mapping[str, str]) -> S:
    """Read a service's settings.

    An empty value counts as absent. Lists are separated by commas. A secret may stand in a file instead,
    whose name is in ``TOLLWIRE_…_FILE``; space around it, and so its last line's end, is no part of it.

    Raises:
        SettingsError: with a line for every variable that is missing or wrong, and what would be right.
    """
    hints = get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    faults: list[str] = []
    for field in msgspec.structs.fields(kind):
        variable = PREFIX + field.name.upper()
        annotation = hints[field.name]
        try:
            text = secret_text(variable, environ) if _is_secret(annotation) else _plain(variable, environ)
        except SettingsError as error:
            faults += error.faults
            continue
        if not text:
            if field.required:
                faults.append(f"{variable} is missing; it must be {_right(annotation)}")
            continue
        try:
            values[field.name] = _convert(text, annotation)
        except ValueError as error:
            wrong = error.part if isinstance(error, _WrongPartError) else text
            shown = "the value (not shown)" if _is_secret(annotation) else repr(wrong[:80])
            faults.append(f"{variable}: {shown} is wrong; it must be {_right(annotation)}")
    if faults:
        raise SettingsError(faults)
    try:
        return kind(**values)
    except ValueError as error:
        raise SettingsError([str(error)]) from error


def secret_text(variable: str, environ: Mapping[str, str]) -> str:
    """Return what a secret setting holds, or the file that its ``_FILE`` names; empty when neither is there.

    Raises:
        SettingsError: both are set, or the file cannot be read.
    """
    text, path = _plain(variable, environ), _plain(variable + FILE, environ)
    if not path:
        return text
    if text:
        raise SettingsError([f"{variable} and {variable}{FILE} are both set; leave one of them out"])
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(VALUE_CHARS_MAX + 1).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError([f"{variable}{FILE}: {path!r} cannot be read: {reason}"]) from None
    if not text:
        raise SettingsError([f"{variable}{FILE}: {path!r} is empty"])
    return text


def describe(kind: type[msgspec.Struct]) -> list[Setting]:
    """List a settings struct's variables in the order of its fields."""
    hints = get_type_hints(kind, include_extras=True)
    settings: list[Setting] = []
    for field in msgspec.structs.fields(kind):
        annotation = hints[field.name]
        default = None if field.required else _as_text(_default(field))
        settings.append(
            Setting(
                variable=PREFIX + field.name.upper(),
                description=str(_schema(annotation).get("description", "")),
                right=_right(annotation),
                default=default,
                is_secret=_is_secret(annotation),
            )
        )
    return settings


def env_example(kinds: Mapping[str, type[msgspec.Struct]]) -> str:
    """Return the text of ``.env.example``: every variable once, with the services that read it."""
    readers: dict[str, list[str]] = {}
    settings: dict[str, Setting] = {}
    for service, kind in kinds.items():
        for setting in describe(kind):
            readers.setdefault(setting.variable, []).append(service)
            settings.setdefault(setting.variable, setting)
    lines: list[str] = []
    for variable, setting in settings.items():
        read_by = "every service" if len(readers[variable]) == len(kinds) else ", ".join(readers[variable])
        lines += [f"# {setting.description}", f"# Read by {read_by}. It is {setting.right}."]
        if setting.is_secret:
            lines.append(f"# Or {variable}{FILE} names a file that holds it.")
        lines += [f"{variable}=" if setting.is_required else f"# {variable}={setting.default}", ""]
    return "\n".join(lines)


def _plain(variable: str, environ: Mapping[str, str]) -> str:
    return environ.get(variable, "").strip()


def _convert(text: str, annotation: Any) -> Any:
    """Turn a variable's text into its field's value; ValueError when it is not right."""
    if len(text) > VALUE_CHARS_MAX:
        raise ValueError("too long")
    raw: Any = text
    if isinstance(_type(annotation), inspect.VarTupleType | inspect.ListType):
        raw = [part for part in (piece.strip() for piece in text.split(",")) if part]
    value = msgspec.convert(raw, annotation, strict=False)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not a finite number")
    _check(value, _extra(annotation).get("check"))
    return value


def _check(value: Any, check: Callable[[Any], object] | None) -> None:
    if check is None:
        return
    for part in value if isinstance(value, tuple | list) else (value,):
        try:
            check(part)
        except ValueError:
            raise _WrongPartError(str(part)) from None


def _right(annotation: Any) -> str:
    """Say in words what a variable must hold."""
    if told := _extra(annotation).get("right"):
        return str(told)
    kind = _type(annotation)
    match kind:
        case inspect.IntType() | inspect.FloatType():
            number = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            return number + _bounds(kind)
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(str(value) for value in values)
        case inspect.EnumType(cls=members):
            return "one of " + ", ".join(str(member.value) for member in members)
        case inspect.VarTupleType() | inspect.ListType():
            return "a list separated by commas"
        case inspect.StrType(pattern=str(pattern)):
            examples = _examples(annotation)
            return f"like {examples[0]}" if examples else f"text that matches {pattern}"
        case inspect.StrType():
            return "text"
        case _:
            return "a valid value"


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge} to {kind.le}"
    if kind.ge is not None:
        return f" of at least {kind.ge}"
    return "" if kind.le is None else f" of at most {kind.le}"


def _type(annotation: Any) -> inspect.Type:
    """Return what a field holds, without the wrapping that carries its description."""
    kind = inspect.type_info(annotation)
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def _schema(annotation: Any) -> Mapping[str, Any]:
    kind = inspect.type_info(annotation)
    return (kind.extra_json_schema or {}) if isinstance(kind, inspect.Metadata) else {}


def _examples(annotation: Any) -> Sequence[str]:
    return cast("Sequence[str]", _schema(annotation).get("examples", ()))


def _is_secret(annotation: Any) -> bool:
    return bool(_extra(annotation).get("secret"))


def _extra(annotation: Any) -> Mapping[str, Any]:
    kind = inspect.type_info(annotation)
    return (kind.extra or {}) if isinstance(kind, inspect.Metadata) else {}


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return cast("Any", field.default_factory)()
    return field.default


def _as_text(value: object) -> str:
    """Write a default as the variable would hold it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple | list):
        return ",".join(str(part) for part in value)
    return str(value)
