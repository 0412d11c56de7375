"""Query and path parameters as structs: text in, the same strict types as in bodies out."""

import re
from typing import Any, get_type_hints

import msgspec
from aiohttp import web

from api.problems import Refusal, invalid_field
from api.violations import alternatives, refuse_values
from shared.domain.problems import ProblemCode

# Digits of a 64-bit number and its sign.
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_FLAGS = {"true": True, "false": False}


class QueryReader:
    """Reads the query of a request into ``kind``, a struct of texts, whole numbers, flags and times."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        hints = get_type_hints(kind, include_extras=True) if kind is not None else {}
        self._whole = {name for name, hint in hints.items() if int in alternatives(hint)}
        self._flags = {name for name, hint in hints.items() if bool in alternatives(hint)}

    def read(self, request: web.BaseRequest) -> Any:
        """Return the struct; None for an operation without a query.

        Raises:
            Refusal: validation_failed, naming each parameter that is wrong, unknown or there twice.
        """
        if self._kind is None:
            if request.query_string:
                raise invalid_field(f"query.{next(iter(request.query), '')}", "is not a parameter here")
            return None
        values: dict[str, Any] = {}
        for name, text in request.query.items():
            if name in values:
                raise invalid_field(f"query.{name}", "must be given once")
            if "\0" in text:
                raise invalid_field(f"query.{name}", "must not hold NUL")
            values[name] = self._value(name, text)
        try:
            return msgspec.convert(values, self._kind)
        except msgspec.ValidationError as error:
            raise refuse_values(error, values, self._kind, where="query") from None

    def _value(self, name: str, text: str) -> Any:
        if name in self._whole and _WHOLE.fullmatch(text):
            return int(text)
        if name in self._flags:
            return _FLAGS.get(text, text)
        return text


def read_path(params: dict[str, str], kind: Any, what: str, *, is_made: bool = False) -> Any:
    """Return the path's parameters; an id that cannot be one belongs to nothing.

    Raises:
        Refusal: not_found; validation_failed where the request makes what the path names (``is_made``).
    """
    if any("\0" in text for text in params.values()) and not is_made:
        raise Refusal(ProblemCode.NOT_FOUND, what=what)
    whole = {
        name for name, hint in get_type_hints(kind, include_extras=True).items() if int in alternatives(hint)
    }
    values = {
        name: int(text) if name in whole and _WHOLE.fullmatch(text) else text for name, text in params.items()
    }
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        if is_made:
            raise refuse_values(error, values, kind, where="path") from None
        raise Refusal(ProblemCode.NOT_FOUND, what=what) from None
