"""Yardsticks that need nothing of ours."""

from bench.instance import scratch_folder
from bench.report import Report
from bench.scenarios.registry import Options, scenario
from bench.yardsticks.floor import fsync_rate, publish_rate


@scenario("floors")
async def floors(report: Report, options: Options) -> None:
    """What the disk (fsync) and NATS (publish) do when nothing else is asked of them."""
    with scratch_folder(options.folder) as folder:
        report.add("fsync of the disk", "1/s", [await fsync_rate(folder) for _ in range(options.rounds)])
        report.add("NATS publish", "1/s", [await publish_rate(folder) for _ in range(options.rounds)])
