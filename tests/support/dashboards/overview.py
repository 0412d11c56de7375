"""First page: does it keep its promises, how much goes through, what burns."""

from tests.support.dashboards.panels import Dashboard, Row, line, lines, number, quantile, rate

ACCEPTS = 'route="/v1/messages",method="POST"'
DELIVERED = rate("tollwire_messages_final_total", where='status="DELIVERED"')
ENDED = rate("tollwire_messages_final_total", where='status!="CANCELLED"')
NAMES = {
    "availability": "Availability 99.95 %",
    "accept_latency": "Accepted within 20 ms: 99 %",
    "submit_delay": "With a carrier within 30 s: 95 %",
    "delivery": "Delivered 99.5 %",
}

OVERVIEW = Dashboard(
    "tollwire-overview",
    "Tollwire / Overview",
    "Objectives and their budgets (docs/slo.md says how they are measured), traffic, alerts, processes.",
    (
        Row(
            "What is left of the error budgets (30 days)",
            [
                *(
                    number(
                        title,
                        f'tollwire:slo_budget_left:30d{{slo="{slo}"}}',
                        "left",
                        unit="percentunit",
                        width=5,
                        decimals=1,
                        bounds=(0.0, 0.25),
                        is_more_better=True,
                        text="1: nothing used. 0: used up. Below: the promise is broken.",
                    )
                    for slo, title in NAMES.items()
                ),
                number(
                    "Alerts that fire",
                    'count(ALERTS{alertstate="firing",alertname!="TollwireWatchdog"}) or vector(0)',
                    "firing",
                    bounds=(1, 3),
                ),
            ],
        ),
        Row(
            "Traffic",
            [
                lines(
                    "Messages a second, from left to right",
                    (rate("tollwire_messages_accepted_total"), "accepted"),
                    (rate("tollwire_submits_total", where='outcome="submitted"'), "with a carrier"),
                    (rate("tollwire_messages_final_total", where='status="DELIVERED"'), "delivered"),
                    (rate("tollwire_callbacks_total", where='result="delivered"'), "called back"),
                    width=12,
                    height=8,
                    text="In a steady state all lines lie on each other.",
                ),
                line(
                    "Messages that wait and may be sent now",
                    "tollwire:waiting_messages",
                    "{{lane}}",
                    width=6,
                    height=8,
                    is_stacked=True,
                    bounds=(20_000, 100_000),
                ),
                line(
                    "Oldest work",
                    "max by (queue) (tollwire_queue_oldest_age_seconds)",
                    "{{queue}}",
                    unit="s",
                    width=6,
                    height=8,
                    bounds=(30, 60),
                ),
            ],
        ),
        Row(
            "Objectives",
            [
                line(
                    "How fast budgets burn (1 h)",
                    "tollwire:slo_burn:1h",
                    "{{slo}}",
                    bounds=(6, 14.4),
                    text="1: the budget lasts just 30 days. 14.4 over an hour and 5 minutes wakes somebody.",
                ),
                lines(
                    "Accepting: P50, P99",
                    (quantile(0.5, "tollwire_http_request_duration_seconds", where=ACCEPTS), "P50"),
                    (quantile(0.99, "tollwire_http_request_duration_seconds", where=ACCEPTS), "P99"),
                    unit="s",
                    bounds=(0.02, 0.05),
                ),
                line(
                    "From acceptance to a carrier: P95",
                    quantile(0.95, "tollwire_accept_to_submit_seconds", by="lane"),
                    "{{lane}}",
                    unit="s",
                    bounds=(30,),
                ),
                line(
                    "Requests by answer",
                    rate("tollwire_http_requests_total", by="code"),
                    "{{code}}",
                    unit="reqps",
                    is_stacked=True,
                ),
                line(
                    "Share delivered",
                    f"{DELIVERED} / {ENDED}",
                    "delivered",
                    unit="percentunit",
                    text="Of what ended and was not cancelled by its client.",
                ),
                line(
                    "Alerts",
                    "sum by (alertname, alertstate) (ALERTS)",
                    "{{alertname}} {{alertstate}}",
                    is_stacked=True,
                ),
            ],
        ),
        Row(
            "Processes",
            [
                line("Processes that answer", 'sum by (job) (up{job=~"tollwire-.*"})', "{{job}}", width=6),
                line(
                    "CPU",
                    'sum by (job) (rate(process_cpu_seconds_total{job=~"tollwire-.*"}[$__rate_interval]))',
                    "{{job}}",
                    width=6,
                    text="Cores, all processes of a service together.",
                ),
                line(
                    "Memory",
                    'max by (job) (process_resident_memory_bytes{job=~"tollwire-.*"})',
                    "{{job}}",
                    unit="bytes",
                    width=6,
                    text="The largest process of each service.",
                ),
                line(
                    "Event loops: lag P99",
                    quantile(0.99, "tollwire_event_loop_lag_seconds", by="job"),
                    "{{job}}",
                    unit="s",
                    width=6,
                    bounds=(0.02,),
                ),
                line(
                    "Versions",
                    "count by (job, version, commit) (tollwire_build_info)",
                    "{{job}} {{version}} {{commit}}",
                    width=12,
                ),
                line(
                    "Errors of loops",
                    "sum by (job) (rate(tollwire_loop_failures_total[$__rate_interval])) or vector(0)",
                    "{{job}}",
                    width=12,
                ),
            ],
        ),
    ),
)
