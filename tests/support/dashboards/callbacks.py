"""Our signed calls to clients."""

from tests.support.dashboards.panels import Dashboard, Panel, Row, line, lines, or_zero, quantiles, rate

POSTED_WELL = rate("tollwire_callback_attempts_total", where='outcome="2xx"')
POSTED = rate("tollwire_callback_attempts_total")

CALLBACKS = Dashboard(
    "tollwire-callbacks",
    "Tollwire / Callbacks",
    "Whether clients hear of their messages, and whose endpoints do not answer.",
    (
        Row(
            "What goes out",
            [
                line(
                    "Posts by answer",
                    rate("tollwire_callback_attempts_total", by="outcome"),
                    "{{outcome}}",
                    unit="ops",
                    is_stacked=True,
                ),
                line("Answered with 2xx", f"{POSTED_WELL} / ({POSTED} > 0)", "share", unit="percentunit"),
                line(
                    "What came of them",
                    rate("tollwire_callbacks_total", by="result"),
                    "{{result}}",
                    unit="ops",
                    is_stacked=True,
                ),
                Panel(
                    "One post",
                    quantiles("tollwire_callback_attempt_seconds"),
                    unit="s",
                    text="The endpoint's time, mostly.",
                ),
                Panel(
                    "From the event to its 2xx",
                    quantiles("tollwire_callback_delay_seconds"),
                    unit="s",
                    text="Retries included.",
                ),
                line("On their way", "sum by (instance) (tollwire_callbacks_in_flight)", "{{instance}}"),
            ],
        ),
        Row(
            "What waits",
            [
                line("Not done", "max(tollwire_callbacks_waiting)", "callbacks", bounds=(50_000,)),
                line(
                    "Oldest that is due",
                    'max(tollwire_queue_oldest_age_seconds{queue="callbacks"})',
                    "age",
                    unit="s",
                    bounds=(60,),
                ),
                line(
                    "Endpoints", "max by (state) (tollwire_callback_endpoints)", "{{state}}", is_stacked=True
                ),
                lines(
                    "Endpoints that are left alone",
                    (rate("tollwire_callback_breakers_opened_total"), "breakers opened a second"),
                    (rate("tollwire_callbacks_sent_back_total"), "callbacks sent back a second"),
                    unit="ops",
                    width=12,
                    text="One slow endpoint holds up only its own callbacks.",
                ),
                line(
                    "Requests for receipts refused",
                    or_zero(rate("tollwire_receipts_refused_total", by="reason")),
                    "{{reason}}",
                    unit="ops",
                    width=12,
                ),
            ],
        ),
    ),
)
