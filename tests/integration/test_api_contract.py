"""The OpenAPI document against the running API: schemathesis sends what it allows and what it forbids."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from api import callers
from tests.support.api_rig import ALL_SCOPES, PLENTY, PLENTY_FOR_OPERATORS, Rig, open_api, prepare
from tests.support.servers import Database

EXAMPLES = 12
SECONDS = 150
# What the shape of a request cannot say (a number that nobody has, both forms of a batch at once) is refused
# although the schema allows it; and what is far too long is told so before it is read.
# A client changes its callback endpoint 20 times at once, and fuzzing does so more often.
CONFIG = """
[[operations]]
include-path-regex = "^/v1/callback(/rotate)?$"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 404, 422, 429]

[checks]
positive_data_acceptance.expected-statuses = ["2xx", 400, 402, 403, 404, 409, 413, 422]
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422]
"""


@pytest.mark.timeout(SECONDS + 60)
async def test_every_answer_is_as_the_document_says(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "OPERATOR_QUOTA", PLENTY_FOR_OPERATORS)
    await prepare(database)
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    async with open_api(database, tmp_path, **PLENTY) as rig:
        # Not "acme", which is the examples' client and is changed by the operators' side.
        await rig.client(
            "tester", credit_micros=10**9, requests_per_minute=10_000_000, requests_burst=1_000_000
        )
        key = await rig.key("tester", ALL_SCOPES)
        # No key may do both: operators' and clients' sides are asked one after the other.
        for side, who in (("--exclude-path-regex", key), ("--include-path-regex", await rig.operator())):
            await _ask(rig, config, side, who)


async def _ask(rig: Rig, config: Path, side: str, key: str) -> None:
    command = [
        str(Path(sys.executable).with_name("st")), "--config-file", str(config),
        "run", f"{rig.url}/openapi.json", side, "^/admin/", "--header", f"X-API-Key: {key}", "--mode", "all",
        "--phases", "examples,coverage,fuzzing", "--checks", "all", "--max-examples", str(EXAMPLES),
        "--seed", "1", "--suppress-health-check", "all",
    ]  # fmt: skip

    def run() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False, cwd=config.parent
        )

    done = await asyncio.to_thread(run)
    assert done.returncode == 0, "\n".join(line[:500] for line in done.stdout.splitlines())
