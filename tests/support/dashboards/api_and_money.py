"""What clients ask, how fast they are answered, and what becomes of their credit."""

from tests.support.dashboards.panels import (
    Dashboard,
    Panel,
    Query,
    Row,
    line,
    lines,
    or_zero,
    quantile,
    quantiles,
    rate,
)

ACCEPTS = 'route="/v1/messages",method="POST"'
ITEMS = rate("tollwire_batch_size_sum", by="batcher")
FLUSHES = rate("tollwire_batch_size_count", by="batcher")
DURATION = "tollwire_http_request_duration_seconds"

API_AND_MONEY = Dashboard(
    "tollwire-api-and-money",
    "Tollwire / API and money",
    "Requests, refusals, keys and limits; holds, captures and releases; the group commit behind them.",
    (
        Row(
            "Requests",
            [
                line(
                    "By answer",
                    rate("tollwire_http_requests_total", by="code"),
                    "{{code}}",
                    unit="reqps",
                    is_stacked=True,
                ),
                line(
                    "By route",
                    f"topk(8, {rate('tollwire_http_requests_total', by='method, route')} > 0)",
                    "{{method}} {{route}}",
                    unit="reqps",
                ),
                line(
                    "Refusals by code",
                    or_zero(rate("tollwire_http_refusals_total", by="code")),
                    "{{code}}",
                    unit="reqps",
                    text="docs/errors.md explains each.",
                ),
                Panel("POST /v1/messages", quantiles(DURATION, ACCEPTS), unit="s", bounds=(0.02, 0.05)),
                line(
                    "P99 by route",
                    f"topk(8, {quantile(0.99, DURATION, by='method, route')} > 0)",
                    "{{method}} {{route}}",
                    unit="s",
                ),
                line("In flight", "sum by (instance) (tollwire_http_requests_in_flight)", "{{instance}}"),
            ],
        ),
        Row(
            "At the door",
            [
                line(
                    "Turned away",
                    or_zero(rate("tollwire_http_rejected_total", by="reason")),
                    "{{reason}}",
                    unit="reqps",
                ),
                line(
                    "Keys looked for in memory",
                    rate("tollwire_api_key_cache_total", by="result"),
                    "{{result}}",
                    unit="ops",
                    text="Each key misses once a process; more is somebody who tries keys.",
                ),
                line(
                    "Keys that were not known yet",
                    rate("tollwire_api_key_checks_total", by="result"),
                    "{{result}}",
                    unit="ops",
                    text="wrong: somebody tries keys, or a client has an old one.",
                ),
                lines(
                    "Checking such a key",
                    (quantile(0.99, "tollwire_api_key_verify_seconds"), "P99"),
                    ("sum(tollwire_api_keys_cached)", "keys in memory (a number)"),
                    unit="s",
                ),
                line(
                    "Limits, by who answered",
                    rate("tollwire_api_limit_answers_total", by="by"),
                    "{{by}}",
                    unit="ops",
                    text="process: without Valkey limits are local and approximate.",
                ),
                lines("Valkey", (quantile(0.99, "tollwire_valkey_call_seconds"), "P99"), unit="s"),
                line("Valkey: errors", rate("tollwire_valkey_errors_total"), "errors", unit="ops"),
            ],
        ),
        Row(
            "Accepted, and its price",
            [
                line(
                    "Messages by lane",
                    rate("tollwire_messages_accepted_total", by="lane"),
                    "{{lane}}",
                    unit="ops",
                    is_stacked=True,
                ),
                line(
                    "Messages by when they may go",
                    rate("tollwire_messages_accepted_total", by="dispatch"),
                    "{{dispatch}}",
                    unit="ops",
                    is_stacked=True,
                ),
                line(
                    "Segments by encoding",
                    rate("tollwire_segments_accepted_total", by="encoding"),
                    "{{encoding}}",
                    unit="ops",
                    is_stacked=True,
                ),
                line(
                    "Holds by result",
                    rate("tollwire_credit_holds_total", by="result"),
                    "{{result}}",
                    unit="ops",
                ),
                line(
                    "Holds that fail",
                    'sum(rate(tollwire_credit_holds_total{result="error"}[$__rate_interval])) / '
                    "sum(rate(tollwire_credit_holds_total[$__rate_interval])) or vector(0)",
                    "share",
                    unit="percentunit",
                    bounds=(0.001,),
                    text="The alert is at 0.1 %.",
                ),
                lines(
                    "Credit a second",
                    (
                        f"{rate('tollwire_credit_held_micros_total', by='currency')} / 1e6",
                        "{{currency}} held",
                    ),
                    (
                        f"{rate('tollwire_credit_captured_micros_total', by='currency')} / 1e6",
                        "{{currency}} captured",
                    ),
                    (
                        or_zero(f"{rate('tollwire_credit_released_micros_total', by='currency')} / 1e6"),
                        "{{currency}} released",
                    ),
                ),
            ],
        ),
        Row(
            "Group commit",
            [
                Panel(
                    "accept: one flush",
                    quantiles("tollwire_batch_flush_seconds", 'batcher="accept"'),
                    unit="s",
                    width=6,
                ),
                Panel(
                    "accept: waiting for it",
                    quantiles("tollwire_batch_wait_seconds", 'batcher="accept"'),
                    unit="s",
                    width=6,
                ),
                Panel(
                    "Items in a flush, on average",
                    (
                        Query(
                            f"{ITEMS} / ({FLUSHES} > 0)",
                            "{{batcher}}",
                        ),
                    ),
                    width=6,
                ),
                line(
                    "Items that wait for a flush",
                    "sum by (batcher) (tollwire_batch_queue_length)",
                    "{{batcher}}",
                    width=6,
                ),
                line(
                    "Turned away by a full queue",
                    or_zero(rate("tollwire_batch_refused_total", by="batcher")),
                    "{{batcher}}",
                    unit="ops",
                    width=12,
                ),
                line(
                    "Flushes that raised",
                    or_zero(rate("tollwire_batch_errors_total", by="batcher, followed_by")),
                    "{{batcher}}: {{followed_by}}",
                    unit="ops",
                    width=12,
                ),
            ],
        ),
    ),
)
