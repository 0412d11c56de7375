"""What the API answers to `tollwire send --csv`, for a server that answers as it is told."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from api.problems import Refusal
from shared.domain.api_keys import RANDOM_BYTES, format_api_key, new_api_key
from shared.domain.problems import ProblemCode
from tests.support.faulty_http import Reply, Request, http

KEY = format_api_key(new_api_key(bytes(RANDOM_BYTES), False))
# Longer than a command waits, so each refusal is told at once.
LATER = {"Content-Type": "application/problem+json", "Retry-After": "1000"}
BALANCE = {
    "posted": "10.0000", "held": "0.0000", "available": "10.0000", "credit_limit": "0.0000",
    "currency": "EUR", "open_holds": 0, "as_of": "2026-11-21T10:00:00.000Z",
}  # fmt: skip


def refused(code: ProblemCode) -> Reply:
    """A problem of the API."""
    refusal = Refusal(code)
    return http(refusal.status, msgspec.json.encode(refusal.problem("r1")), headers=LATER)


def rows_of(request: Request) -> list[dict[str, Any]]:
    """The messages of a batch."""
    rows: list[dict[str, Any]] = json.loads(request.body)["messages"]
    return rows


def batch(request: Request, undecided: ProblemCode | None = None) -> Reply:
    """Accept a batch; with ``undecided`` its first row alone, and that for every other."""
    results = []
    for index, row in enumerate(rows_of(request)):
        if index and undecided is not None:
            problem = msgspec.to_builtins(Refusal(undecided).problem("r1"))
            results.append({"index": index, "problem": problem})
        else:
            results.append({"index": index, "message": accepted(row["to"])})
    count = sum("message" in result for result in results)
    document = {"accepted": count, "rejected": len(results) - count, "results": results}
    return http(202, json.dumps(document).encode())


def accepted(to: str) -> dict[str, Any]:
    """A message that was accepted, at 0.0750 EUR."""
    return {
        "id": str(uuid4()), "status": "QUEUED", "to": to, "from": "ACME", "lane": "normal",
        "encoding": "GSM7", "segments": 1, "client_ref": None, "created_at": "2026-11-21T10:00:00.000Z",
        "price": {"amount": "0.0750", "currency": "EUR"},
        "balance": {"available": "1.0000", "currency": "EUR"},
    }  # fmt: skip


def account(request: Request) -> Reply:
    """Answer for an account that stands still."""
    if request.path.startswith("/v1/balance"):
        return http(200, json.dumps(BALANCE).encode())
    return http(200, json.dumps({"currency": "EUR", "entries": [], "next_cursor": None}).encode())


def file_of(rows: int, folder: Path) -> Path:
    """A file of so many messages."""
    file = folder / "messages.csv"
    file.write_text("to,text\n" + "".join(f"+49151123456{row:02},hello\n" for row in range(rows)))
    return file
