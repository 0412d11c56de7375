"""Stack traces as a log may show them: where it happened and what kind of error it was, no values.

A library's error quotes what it was given (``invalid input for argument $3: 'Your code is 123456'``), so
whatever stands in quotes is left out, and where it is not clear what does, rather more than less. Frames
have no source line and no locals: the release has the source.
"""

import re
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from pathlib import PurePath
from typing import Any, Final

# The innermost frames tell most; a recursion would fill the log.
FRAMES_MAX: Final = 20
# An error, what caused it, and what caused that: more has never told more.
CHAIN_MAX: Final = 5
SENTENCE_CHARS_MAX: Final = 300
# How many parts of a file's path are shown: package and module.
PATH_PARTS: Final = 3
HIDDEN: Final = "…"

# English, as in "machine's", "isn't" and "carriers'". In b's…' it is a quote.
_APOSTROPHE: Final = r"(?<=[A-Za-z]{2})'(?=(?:s|t|d|m|re|ll|ve)\b)"
_PLURAL: Final = r"(?<=s)'(?=[\s,.;:!?)]|\Z)"
# A text may hold quotes of its own that nobody escaped, and seem to end too early: when the next quote after
# that can only close something too, all the rest is left out.
_GOES_ON: Final = rf"(?:(?:[^'\"]|{_APOSTROPHE})*+(?<=\S)['\"](?=[\s\]).,;:!?}}>]|\Z).*)?"


def _quoted(mark: str) -> str:
    """From a quote to where it closes; to the end of the sentence if it nowhere does."""
    return rf"{mark}(?:\\.?|[^{mark}\\]|{mark}(?=\w))*+(?:{mark}{_GOES_ON}|\Z)"


_QUOTED: Final = re.compile(rf"(?!{_APOSTROPHE}|{_PLURAL}){_quoted(chr(39))}|{_quoted(chr(34))}")


def show_exception(_logger: object, _level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace ``exc_info`` by ``exception``: a processor of structlog."""
    given = event.pop("exc_info", None)
    error = _error_of(given)
    if error is not None:
        event["exception"] = stack_trace(error)
    return event


def stack_trace(error: BaseException) -> str:
    """Return the error, what led to it, and where; the first line is the error itself."""
    parts = ["\n".join([_sentence(link), *_frames(link)]) for link in _chain(error)]
    return "\ncaused by ".join(parts)


def _error_of(given: object) -> BaseException | None:
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        return _error_of(given[1])
    return sys.exc_info()[1] if given else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(CHAIN_MAX):
        if link is None:
            return
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _sentence(error: BaseException) -> str:
    said, _, _ = str(error).partition("\n")
    shown = _QUOTED.sub(HIDDEN, said)[:SENTENCE_CHARS_MAX]
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__


def _frames(error: BaseException) -> Iterator[str]:
    """The innermost frame first: where it was raised."""
    frames = list(traceback.walk_tb(error.__traceback__))[-FRAMES_MAX:]
    for frame, line_no in reversed(frames):
        place = "/".join(PurePath(frame.f_code.co_filename).parts[-PATH_PARTS:])
        yield f"  {place}:{line_no} {frame.f_code.co_qualname}"
