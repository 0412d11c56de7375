"""The books, and the clockwork that keeps them and what they belong to in order."""

from tests.support.dashboards.panels import Dashboard, Row, line, lines, number, or_zero, rate

FINDINGS = "sum(max by (walk) (tollwire_ledger_findings))"
STEP_AGE = "time() - max(tollwire_ledger_verify_step_timestamp_seconds > 0)"
ROUND_AGE = "time() - max(tollwire_ledger_verified_timestamp_seconds > 0)"

LEDGER = Dashboard(
    "tollwire-ledger",
    "Tollwire / Ledger",
    "Are the books whole, and proved; where clients' credit is; outbox, partitions, retention, archive.",
    (
        Row(
            "Proof",
            [
                number(
                    "Findings",
                    FINDINGS,
                    "findings",
                    bounds=(1, 1),
                    text="Above 0 somebody has to look at once.",
                ),
                number("Since the last step of verification", STEP_AGE, "age", unit="s", bounds=(1800, 3600)),
                number(
                    "Days of partitions ahead",
                    "max(tollwire_partitions_days_ahead)",
                    "days",
                    bounds=(3, 5),
                    is_more_better=True,
                ),
                number(
                    "Processes that lead",
                    "sum(tollwire_observer)",
                    "observers",
                    bounds=(1, 1),
                    is_more_better=True,
                ),
                number("Schema", "max(tollwire_schema_version)", "version"),
                number(
                    "Secrets that open with no key",
                    "sum(max by (kind) (tollwire_sealed_broken)) or vector(0)",
                    "secrets",
                    bounds=(1, 1),
                ),
                line(
                    "Findings",
                    "max by (walk) (tollwire_ledger_findings)",
                    "{{walk}}",
                    width=6,
                    bounds=(1,),
                    text="Of the last whole walk, or of the present one if it has more.",
                ),
                line(
                    "Since the last whole round",
                    ROUND_AGE,
                    "over all accounts",
                    width=6,
                    unit="s",
                    text="A minute with small books, hours with a hundred million messages a day.",
                ),
                line(
                    "Days sealed",
                    or_zero("sum(increase(tollwire_ledger_days_sealed_total[1d]))"),
                    "within a day",
                    width=6,
                ),
                line(
                    "Seals on their way into files",
                    or_zero(rate("tollwire_ledger_seal_exports_total", by="result")),
                    "{{result}}",
                    width=6,
                    unit="ops",
                ),
            ],
        ),
        Row(
            "Credit of all clients",
            [
                line(
                    "Sums",
                    "max by (currency, state) (tollwire_credit_micros) / 1e6",
                    "{{currency}} {{state}}",
                    width=12,
                    text="available = posted - held + credit_limit + overdrawn, for each account.",
                ),
                line(
                    "On hold",
                    'max by (currency) (tollwire_credit_micros{state="held"}) / 1e6',
                    "{{currency}}",
                    width=6,
                    text="Grows with what waits for a receipt; each hold ends.",
                ),
                line("Accounts", "max by (currency) (tollwire_accounts)", "{{currency}}", width=6),
                lines(
                    "Held, captured and released a second",
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
                    width=24,
                ),
            ],
        ),
        Row(
            "Outbox and clockwork",
            [
                line("Rows in the outbox", "max(tollwire_outbox_rows)", "rows"),
                line(
                    "Oldest row that is due",
                    "max(tollwire_outbox_oldest_due_seconds)",
                    "age",
                    unit="s",
                    bounds=(30,),
                ),
                line(
                    "Rows looked after",
                    or_zero(rate("tollwire_clockwork_total", by="work")),
                    "{{work}}",
                    unit="ops",
                    text="What the fast path left: what waits for its time, retries, what a dead one held.",
                ),
                line(
                    "Callbacks and receipts that were given up",
                    or_zero(rate("tollwire_forgotten_total", by="kind")),
                    "{{kind}}",
                    unit="ops",
                ),
                line(
                    "Messages that every call fails on",
                    or_zero(rate("tollwire_unworkable_total", by="work")),
                    "{{work}}",
                    unit="ops",
                    text="Put off and tried again, at least every hour; nobody waits for them.",
                ),
                line(
                    "Facts not told",
                    or_zero(rate("tollwire_facts_dropped_total", by="job")),
                    "{{job}}",
                    unit="ops",
                ),
                line(
                    "Configuration in force",
                    "max by (job) (tollwire_config_version)",
                    "{{job}}",
                    text="All lines lie on each other.",
                ),
            ],
        ),
        Row(
            "Retention",
            [
                line(
                    "Days past their time",
                    or_zero("max by (part, due) (tollwire_retention_overdue_days)"),
                    "{{part}} {{due}}",
                    bounds=(2,),
                ),
                line(
                    "Rows archived",
                    or_zero(rate("tollwire_archive_rows_total", by="table")),
                    "{{table}}",
                    unit="ops",
                ),
                line("Archive", rate("tollwire_archive_bytes_total"), "compressed", unit="Bps"),
                line(
                    "Partitions dropped",
                    or_zero("sum by (table) (increase(tollwire_partitions_retired_total[1d]))"),
                    "{{table}}",
                ),
                line(
                    "Texts deleted",
                    or_zero(rate("tollwire_texts_expired_total", by="how")),
                    "{{how}}",
                    unit="ops",
                ),
                line(
                    "Tries that met traffic",
                    rate("tollwire_partition_lock_misses_total"),
                    "lock misses",
                    unit="ops",
                ),
            ],
        ),
    ),
)
