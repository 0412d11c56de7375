"""What a message leaves behind: the bytes of each table, of the events, of WAL, and the CPU it took."""

from typing import Final

import nats

from bench.end_to_end import Rig, carry, rig
from bench.instance import scratch_folder
from bench.load import Plan
from bench.report import Report
from bench.scenarios.registry import Options, scenario
from shared.runtime.streams import STREAMS

# Enough that the first pages of a day's partitions do not count.
MESSAGES: Final = 20_000
CONNECTIONS: Final = 128
KILOBYTE: Final = 1_000
MEGABYTE: Final = 1_000_000
MICROSECONDS: Final = 1_000_000
# Indexes and TOAST belong to their table, partitions to the table that they are of.
_TABLES: Final = """
    select coalesce(pg_partition_root(c.oid), c.oid)::regclass::text as name,
           sum(pg_total_relation_size(c.oid))::bigint as bytes
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and n.nspname in ('tollwire', 'ledger')
    group by 1
"""


@scenario("keeping", is_long=True)
async def keeping(report: Report, options: Options) -> None:
    """What a message leaves behind: bytes in each table and stream, WAL, CPU, memory."""
    with scratch_folder(options.folder) as folder:
        async with rig(folder, scale=options.scale) as whole:
            plan = Plan(connections=CONNECTIONS, requests=MESSAGES)
            before = await _kept(whole)
            runs = [await carry(whole, plan) for _ in range(options.rounds)]
            after = await _kept(whole)
    messages = sum(run.messages for run in runs)
    for name in sorted(after):
        grown = (after[name] - before.get(name, 0)) / messages
        if grown >= 1:
            report.add(f"kept in {name}", "kB/msg", [grown / KILOBYTE])
    report.add("WAL", "kB/msg", [run.wal_bytes / KILOBYTE / run.messages for run in runs])
    for name in runs[0].cpu_seconds:
        costs = [run.cpu_seconds[name] * MICROSECONDS / run.messages for run in runs]
        report.add(f"CPU of {name}", "µs/msg", costs)
    for name in runs[0].memory_bytes:
        report.add(f"memory of {name}", "MB", [run.memory_bytes[name] / MEGABYTE for run in runs])


async def _kept(whole: Rig) -> dict[str, int]:
    async with whole.instance.database() as connection:
        found = {str(row["name"]): int(row["bytes"]) for row in await connection.fetch(_TABLES)}
    return found | await _streams(whole)


async def _streams(whole: Rig) -> dict[str, int]:
    server = whole.instance.servers.nats
    if server is None:
        raise RuntimeError("the bench runs its own NATS")
    client = await nats.connect(server.url, token=server.token)
    try:
        found = [await client.jetstream().stream_info(stream.name) for stream in STREAMS]
        return {str(one.config.name): one.state.bytes for one in found}
    finally:
        await client.close()
