"""Logs of servers and of services, as a person reads their end."""

import json

EXCEPTION_LINES = 4  # the first ones: what was raised, and the innermost places
CAUSED_BY = "caused by "  # before each error that led to it


def readable(text: str) -> str:
    """Turn each JSON line of a service into a plain one with the head of its exception; others stay."""
    return "\n".join(_readable(line) for line in text.splitlines())


def _readable(line: str) -> str:
    if not line.startswith("{"):
        return line
    try:
        record = json.loads(line)
    except ValueError:
        return line
    words = [str(record[name]) for name in ("ts", "level", "event") if name in record]
    known = {"ts", "level", "event", "service", "exception"}
    words += [f"{name}={value}" for name, value in record.items() if name not in known]
    exception = str(record.get("exception", "")).splitlines()
    causes = [part for part in exception[EXCEPTION_LINES:] if part.startswith(CAUSED_BY)]
    return "\n".join([" ".join(words), *(f"    {part}" for part in exception[:EXCEPTION_LINES] + causes)])
