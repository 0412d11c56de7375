"""From the outbox to the carrier, and what the carriers' receipts say."""

from tests.support.dashboards.panels import (
    Dashboard,
    Panel,
    Row,
    line,
    lines,
    or_zero,
    quantile,
    quantiles,
    rate,
)

TAKEN = rate("tollwire_submits_total", by="carrier", where='outcome="submitted"')
# What was never taken has no series since the workers started: it counts as none.
TAKEN_OR_NONE = f"({TAKEN} or 0 * {rate('tollwire_submits_total', by='carrier')})"
TAKEABLE = rate("tollwire_submits_total", by="carrier", where='outcome!~"throttled|refused"')
DELIVERED = rate("tollwire_messages_final_total", by="carrier", where='status="DELIVERED"')
ENDED = rate("tollwire_messages_final_total", by="carrier", where='status!="CANCELLED"')

WORKER_AND_CARRIERS = Dashboard(
    "tollwire-worker-and-carriers",
    "Tollwire / Worker and carriers",
    "What waits, what goes out, how each carrier answers, and what its receipts say.",
    (
        Row(
            "Work",
            [
                line(
                    "May be sent now",
                    "tollwire:waiting_messages",
                    "{{lane}}",
                    is_stacked=True,
                    bounds=(20_000, 100_000),
                ),
                line("Waits for its time or its client's pace", "max(tollwire_shaped_messages)", "messages"),
                line(
                    "Oldest",
                    'max by (queue) (tollwire_queue_oldest_age_seconds{queue!="callbacks"})',
                    "{{queue}}",
                    unit="s",
                    bounds=(30, 60),
                ),
                line(
                    "From when it might go to a carrier: P50",
                    quantile(0.5, "tollwire_accept_to_submit_seconds", by="lane"),
                    "{{lane}}",
                    unit="s",
                ),
                line(
                    "From when it might go to a carrier: P95",
                    quantile(0.95, "tollwire_accept_to_submit_seconds", by="lane"),
                    "{{lane}}",
                    unit="s",
                    bounds=(30,),
                ),
                line(
                    "Bundles",
                    rate("tollwire_bundles_total", by="lane, result"),
                    "{{lane}} {{result}}",
                    unit="ops",
                ),
                line(
                    "Wait for a turn at a carrier: P95",
                    quantile(0.95, "tollwire_carrier_turn_wait_seconds", by="carrier, lane"),
                    "{{carrier}} {{lane}}",
                    unit="s",
                    text="For a place in its window, or for its pace.",
                ),
                line(
                    "Claims that were not won",
                    or_zero(rate("tollwire_claims_refused_total", by="reason")),
                    "{{reason}}",
                    unit="ops",
                    text="Two workers had the same message, or it had ended: a few are normal.",
                ),
                line(
                    "To be submitted again",
                    or_zero(rate("tollwire_submit_retries_total", by="carrier, reason")),
                    "{{carrier}} {{reason}}",
                    unit="ops",
                ),
                line(
                    "Given up",
                    or_zero(rate("tollwire_dead_letters_total", by="carrier, reason")),
                    "{{carrier}} {{reason}}",
                    unit="ops",
                ),
            ],
        ),
        Row(
            "Carriers",
            [
                line(
                    "Submits by outcome",
                    rate("tollwire_submits_total", by="carrier, outcome"),
                    "{{carrier}} {{outcome}}",
                    unit="ops",
                ),
                line(
                    "Taken, of what could be taken",
                    f"{TAKEN_OR_NONE} / ({TAKEABLE} > 0)",
                    "{{carrier}}",
                    unit="percentunit",
                    text="Without what it refuses for ever and what it throttles. The alert is below 99 %.",
                ),
                line(
                    "Submit: P95",
                    quantile(0.95, "tollwire_submit_seconds", by="carrier"),
                    "{{carrier}}",
                    unit="s",
                ),
                lines(
                    "Places at a carrier",
                    ('sum by (carrier) (tollwire_carrier_window{state="used"})', "{{carrier}} used"),
                    ('sum by (carrier) (tollwire_carrier_window{state="max"})', "{{carrier}} max"),
                    ("sum by (carrier) (tollwire_submits_in_flight)", "{{carrier}} in flight"),
                ),
                line(
                    "Breakers open",
                    "sum by (carrier) (tollwire_carrier_down)",
                    "{{carrier}}",
                    text="How many workers leave the carrier alone.",
                ),
                line(
                    "Rate in force",
                    or_zero("sum by (carrier) (tollwire_carrier_rate_per_second)"),
                    "{{carrier}}",
                    unit="ops",
                    text="0: no limit.",
                ),
            ],
        ),
        Row(
            "Ends and receipts",
            [
                line(
                    "Ends by status",
                    rate("tollwire_messages_final_total", by="status"),
                    "{{status}}",
                    unit="ops",
                    is_stacked=True,
                ),
                line(
                    "Share delivered by carrier",
                    f"{DELIVERED} / ({ENDED} > 0)",
                    "{{carrier}}",
                    unit="percentunit",
                ),
                Panel("From acceptance to the end", quantiles("tollwire_accept_to_final_seconds"), unit="s"),
                line(
                    "From submit to receipt: P95",
                    quantile(0.95, "tollwire_submit_to_receipt_seconds", by="carrier"),
                    "{{carrier}}",
                    unit="s",
                ),
                line(
                    "Receipts kept",
                    rate("tollwire_receipts_received_total", by="carrier, state"),
                    "{{carrier}} {{state}}",
                    unit="ops",
                ),
                line(
                    "What receipts did",
                    rate("tollwire_receipts_settled_total", by="outcome"),
                    "{{outcome}}",
                    unit="ops",
                    text="unmatched, ambiguous: kept, charged to nobody. See docs/guarantees.md.",
                ),
                lines(
                    "Receipts that wait, and refused requests",
                    ("max(tollwire_receipts_waiting)", "waiting"),
                    (or_zero(rate("tollwire_receipts_refused_total")), "refused a second"),
                ),
            ],
        ),
    ),
)
