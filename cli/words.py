"""What was typed, before it is sent anywhere."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

import click
import msgspec
from click.core import ParameterSource

from api.schemas import OUT_OF_TIME, PREFIX_RIGHT, PRICE_RIGHT, Instant, Price, is_strange
from api.violations import RFC3339
from cli.failures import Exit, Failure
from shared.domain.msisdn import is_e164

# As click names what it takes for an option: -5 of -5.00.
_NUMBER_BELOW_ZERO = re.compile(r"-[0-9.]")


def refuse_undecodable(options: Mapping[str, Any]) -> None:
    """Return when all words are text. Paths may be of any bytes.

    Raises:
        Failure: one is not UTF-8, so no request and no table could hold it.
    """
    for name, value in options.items():
        for word in _words(value):
            if any("\ud800" <= character <= "\udfff" for character in word):
                title = f"{name.replace('_', ' ').capitalize()} is not UTF-8."
                raise Failure(title, detail=ascii(word), exit_code=Exit.USAGE)


def not_empty(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A callback of an option that is not given empty: a script's unset variable is no choice of the default.

    Raises:
        click.UsageError: it is.
    """
    is_typed = ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    if is_typed and value is not None and not value.strip():
        raise click.UsageError(f"{param.opts[0]} is empty.", ctx)
    return value


def part(name: str) -> str:
    """A name as one part of a URL's path, whatever it holds.

    Raises:
        Failure: it is empty, which would name all of its kind.
    """
    if not name:
        raise Failure("The name is empty.", exit_code=Exit.USAGE)
    return quote(name, safe="")


class Word(click.ParamType[str]):
    """What the API reads as ``kind``; anything else is wrong use, in the command line's own words.

    Args:
        kind: a type that msgspec converts a text to.
        right: what would be right, as "must be …".
    """

    def __init__(self, name: str, kind: Any, right: str) -> None:
        self.name = name
        self._kind = kind
        self._right = right

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text as it was typed."""
        if isinstance(param, click.Option) and not value.strip():
            raise click.UsageError(f"{param.opts[0]} is empty.", ctx)
        try:
            read = msgspec.convert(value, self._kind)
        except (msgspec.ValidationError, UnicodeEncodeError):
            self.fail(f"{value!a} {self._right}", param, ctx)
        if isinstance(read, datetime) and is_strange(read):
            self.fail(f"{value!a} {OUT_OF_TIME}", param, ctx)
        return value


class _Number(click.ParamType[str]):
    name = "number"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text as it was typed."""
        if not is_e164(value):
            self.fail(f"{value!a} must be in E.164 with its +, as in +4915112345678", param, ctx)
        return value


TIME: Final = Word("time", Instant, RFC3339)
PRICE: Final = Word("amount", Price, PRICE_RIGHT)
PREFIX: Final = Word("prefix", Annotated[str, msgspec.Meta(pattern=r"^\+?[0-9]{0,15}\Z")], PREFIX_RIGHT)
NUMBER: Final = _Number()


class AboveZero(click.Command):
    """A command of an amount that is never below zero, and says so where click sees an unknown option -5.

    Args:
        below_zero: what to do instead, as a sentence.
    """

    def __init__(self, *given: Any, below_zero: str, **told: Any) -> None:
        super().__init__(*given, **told)
        self._below_zero = below_zero

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words behind the command's name."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if _NUMBER_BELOW_ZERO.fullmatch(error.option_name):
                raise click.UsageError(self._below_zero, ctx) from None
            raise


def _words(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        return [value]
    return [word for word in value if isinstance(word, str)] if isinstance(value, tuple) else ()
