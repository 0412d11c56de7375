"""One message on the screen: what it is, what became of it, what was paid for it."""

from rich.text import Text

from api.read_schemas import MessageDetail
from cli.output import Output, amount_text, short_time_text, state_text, time_text

NOT_YET = "-"


def print_message(output: Output, message: MessageDetail) -> None:
    """Show a message with its hold, its attempts and its events."""
    output.details(_facts(message))
    if message.attempts:
        output.gap()
        output.table(
            ["attempt", "part", "carrier", "claimed", "outcome", "~reference", "receipt", "~error"],
            [
                (
                    str(attempt.attempt), str(attempt.part), attempt.carrier,
                    short_time_text(attempt.claimed_at), attempt.outcome or NOT_YET,
                    attempt.carrier_reference or "", attempt.receipt or NOT_YET, attempt.error or "",
                )
                for attempt in message.attempts
            ],
        )  # fmt: skip
    if message.events:
        output.gap()
        rows = [(short_time_text(event.at), event.event, event.detail or "") for event in message.events]
        output.table(["time", "event", "~detail"], rows)


def _facts(message: MessageDetail) -> list[tuple[str, str | Text | None]]:
    price = amount_text(message.price.amount, message.price.currency)
    hold = message.hold
    held = Text.assemble(
        (amount_text(hold.amount, hold.currency), ""),
        " ",
        state_text(hold.state),
        f" ({hold.reason})" if hold.reason else "",
    )
    parts = f"{message.segments} x {message.encoding}"
    return [
        ("Id", str(message.id)),
        ("Status", state_text(message.status)),
        ("Error", message.error),
        ("To", f"{message.to} ({message.region})"),
        ("From", message.sender),
        ("Text", Text("removed after its retention", "dim") if message.text is None else message.text),
        ("Segments", parts),
        ("Price", price),
        ("Hold", held),
        ("Lane", f"{message.lane}, {message.delivery}"),
        ("Reference", message.client_ref),
        ("Replay of", str(message.replay_of) if message.replay_of else None),
        ("Carrier", message.carrier),
        ("Accepted", time_text(message.created_at)),
        ("Send at", time_text(message.send_at) if message.send_at else None),
        ("Submitted", time_text(message.submitted_at) if message.submitted_at else None),
        ("Final", time_text(message.final_at) if message.final_at else None),
        ("Note", "may have been sent twice" if message.possible_duplicate else None),
        ("Test", "yes: simulated, costs nothing" if message.is_test else None),
    ]
