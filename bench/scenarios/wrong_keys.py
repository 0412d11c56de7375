"""A flood of wrong keys beside clients that have right ones."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from bench import books
from bench.accept import Desk, accept, desk
from bench.instance import scratch_folder
from bench.load import MICROSECONDS, Outcome, Plan, Requests
from bench.report import Goal, Report
from bench.scenarios.registry import Options, scenario
from shared.domain.api_keys import RANDOM_BYTES, format_api_key, new_api_key, parse_api_key

CLIENTS: Final = 100
CONNECTIONS: Final = 32
RATE: Final = 300
SECONDS: Final = 5
FLOOD_RATE: Final = 1_000
# The flood begins before the clients are looked at, and ends after them.
LEAD_SECONDS: Final = 1
FLOOD_SECONDS: Final = SECONDS + 3 * LEAD_SECONDS
# Of a single round the P99 is the 15th worst answer: its median needs some of them.
ROUNDS_MIN: Final = 5
REFUSED: Final = frozenset({401, 429})
# A flood that the server (or the generator) slows down is none.
FLOOD_SHARE: Final = 0.9
SHARES: Final = (("P50", 0.5), ("P99", 0.99))
FLOODED: Final = (Goal(1.20, 1.10, of_ratio=True, at_most=True),)


@scenario("wrong_keys")
async def wrong_keys(report: Report, options: Options) -> None:
    """Clients at 300/s, without and with a flood of 1,000/s of wrong keys from the same address."""
    plan = Plan(connections=CONNECTIONS, rate=RATE, requests=RATE * SECONDS)
    quiet, flooded, refused = [], [], []
    costs: list[tuple[float, float]] = []
    with scratch_folder(options.folder) as folder:
        async with desk(folder, clients=CLIENTS, scale=options.scale) as whole:
            for _ in range(max(options.rounds, ROUNDS_MIN)):
                begun = _cpu_seconds(whole)
                quiet.append(await accept(whole, plan))
                between = _cpu_seconds(whole)
                beside, flood = await _beside_a_flood(whole, plan)
                costs.append((between - begun, _cpu_seconds(whole) - between))
                flooded.append(beside)
                refused.append(flood)
    for label, share in SHARES:
        against = ("quiet", [one.latency_ms(share) for one in quiet])
        goals = FLOODED if share == 0.99 else ()
        values = [one.latency_ms(share) for one in flooded]
        report.add(f"300/s beside 1,000/s wrong keys, {label}", "ms", values, against=against, goals=goals)
    each = [
        (beside - alone) * MICROSECONDS / len(one.records)
        for (alone, beside), one in zip(costs, refused, strict=True)
    ]
    report.add("CPU of all processes for a wrong key", "µs", each)
    report.add("wrong keys refused", "req/s", [len(one.records) / one.seconds for one in refused])
    for code in sorted(REFUSED):
        report.add(f"of them with {code}", "answers", [float(one.codes.get(code, 0)) for one in refused])


def _cpu_seconds(whole: Desk) -> float:
    return sum(one.cpu_seconds for one in whole.instance.usage().values())


async def _beside_a_flood(whole: Desk, plan: Plan) -> tuple[Outcome, Outcome]:
    """Both outcomes: each right key was accepted, and each wrong one refused.

    Raises:
        WrongCount: it was not so, or the flood was less than it must be.
    """
    requests = Requests(whole.folder, _wrong(whole.keys, FLOOD_RATE * FLOOD_SECONDS))
    flood = Plan(
        port=whole.instance.api_port,
        connections=CONNECTIONS,
        rate=FLOOD_RATE,
        requests=FLOOD_RATE * FLOOD_SECONDS,
    )
    async with asyncio.TaskGroup() as tasks:
        flooding = tasks.create_task(requests.run(flood))
        await asyncio.sleep(LEAD_SECONDS)
        beside = await accept(whole, plan)
    came = flooding.result()
    books.expect("statuses of wrong keys that are none of a refusal", set(came.codes) - REFUSED, set())
    is_whole = len(came.records) / came.seconds >= FLOOD_SHARE * FLOOD_RATE
    books.expect("the flood was as large as planned", is_whole, True)
    books.expect("the flood lasted longer", came.ended_us > beside.ended_us, True)
    return beside, came


def _wrong(keys: Sequence[str], count: int) -> list[str]:
    """Keys that nobody has: a third mistyped, a third unknown, a third of a client with another secret."""
    found = []
    for number in range(count):
        key = new_api_key(secrets.token_bytes(RANDOM_BYTES), is_test=False)
        if number % 3 == 0:
            found.append(format_api_key(key)[:-1])
        elif number % 3 == 1:
            found.append(format_api_key(key))
        else:
            owner = parse_api_key(keys[number % len(keys)])
            found.append(format_api_key(replace(key, key_id=owner.key_id)))
    return found
