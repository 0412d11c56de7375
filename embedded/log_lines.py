"""Logs of servers and of services, as a person reads their end."""

import json

ERROR_LINES = 3  # of each error of a chain the first ones: what was raised, and the innermost places
CAUSED_BY = "\ncaused by "  # before each error that led to it


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
    errors = str(record.get("exception", "")).split(CAUSED_BY)
    heads = CAUSED_BY.join("\n".join(error.splitlines()[:ERROR_LINES]) for error in errors)
    return "\n".join([" ".join(words), *(f"    {part}" for part in heads.splitlines())])
