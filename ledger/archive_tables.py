"""What goes into the archive, column by column, and what does not.

Neither texts nor numbers are archived: a number shows its last two digits, so that nothing has to be
erased there (``tollwire pii erase``). tests/integration/test_archive.py holds this list against the tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from uuid import UUID

from shared.domain.ids import day_bounds

# Rows of a chunk: a COPY of some hundred milliseconds, well within the role's 5 s.
CHUNK_ROWS: Final = 20_000

# Columns that stay out, and why. The rest of each table is in its statement below.
OMITTED: Final[Mapping[str, Mapping[str, str]]] = {
    "tollwire.message_states": {
        "claim_id": "says which worker had it, while it had it",
        "claim_deadline": "null when a message has ended",
    },
    "tollwire.attempts": {"error_detail": "free text of a carrier, which may hold the number"},
    "tollwire.receipts": {
        "due_at": "says when to look again, while it is not settled",
        "tries": "says how often was looked, while it was not settled",
    },
    "tollwire.callbacks": {
        "due_at": "says when to try again, while it is open",
        "is_leased": "says whether somebody has it, while it is open",
        "own_url": "says whose breaker holds it back, while it is open",
    },
    "tollwire.callback_attempts": {"answer_head": "what a client's endpoint wrote: anything"},
}


@dataclass(frozen=True, slots=True)
class ArchiveTable:
    """One table of a part.

    Attributes:
        name: schema and table.
        end_sql: ($after…, $bound, $limit) → the key of the last row of the next chunk, and its rows.
        copy_sql: ($after…, $last…, $bound) → the chunk's rows in the order of the key.
    """

    name: str
    end_sql: str
    copy_sql: str

    @property
    def file(self) -> str:
        """Name of its file within the day's folder."""
        return f"{self.name.partition('.')[2]}.csv.gz"


@dataclass(frozen=True, slots=True)
class Part:
    """Tables that are archived together, and where a day of them begins and ends."""

    name: str
    tables: tuple[ArchiveTable, ...]

    def start(self, day: date) -> tuple[Any, ...]:
        """The key before the first one of the day."""
        return (UUID(int=day_bounds(day)[0].int - 1),) if self.name == "messages" else (0, 0)

    def bound(self, day: date) -> UUID | date:
        """What the chunks are bounded by: the first id of the next day, or the journal's day."""
        return day_bounds(day)[1] if self.name == "messages" else day


MESSAGES: Final = Part(
    "messages",
    (
        ArchiveTable(
            "tollwire.messages",
            "select o_last, o_rows from tollwire.chunk_end_v1('tollwire.messages', $1, $2, $3)",
            """
            select id, client_id, regexp_replace(msisdn, '[0-9](?=[0-9]{2})', '*', 'g') as msisdn, region,
                   sender, lane, encoding, segments, price_micros, currency, rate_version, client_ref,
                   delivery, charge, send_at, valid_until, callback_url, is_test, replay_of, created_at
            from tollwire.messages where id > $1 and id <= $2 and id < $3 order by id
            """,
        ),
        ArchiveTable(
            "tollwire.message_states",
            "select o_last, o_rows from tollwire.chunk_end_v1('tollwire.message_states', $1, $2, $3)",
            """
            select message_id, state, attempt_no, tries, carrier_id, parts_total, parts_delivered, sequence,
                   possible_duplicate, late_receipt, submitted_at, final_at, updated_at, error_code
            from tollwire.message_states where message_id > $1 and message_id <= $2 and message_id < $3
            order by message_id
            """,
        ),
        ArchiveTable(
            "ledger.credit_locks",
            "select o_last, o_rows from tollwire.chunk_end_v1('ledger.credit_locks', $1, $2, $3)",
            """
            select message_id, account_id, amount_micros, state, hold_version, held_at, resolved_at, reason,
                   late_captured_at
            from ledger.credit_locks where message_id > $1 and message_id <= $2 and message_id < $3
            order by message_id
            """,
        ),
        ArchiveTable(
            "tollwire.attempts",
            "select o_last, o_rows from tollwire.chunk_end_v1('tollwire.attempts', $1, $2, $3)",
            """
            select message_id, attempt_no, part_no, carrier_id, claimed_at, outcome, outcome_at, reference,
                   error_code, receipt, receipt_at
            from tollwire.attempts where message_id > $1 and message_id <= $2 and message_id < $3
            order by message_id, attempt_no, part_no
            """,
        ),
        ArchiveTable(
            "tollwire.receipts",
            "select o_last, o_rows from tollwire.chunk_end_v1('tollwire.receipts', $1, $2, $3)",
            """
            select id, carrier_id, reference, state, done_at,
                   regexp_replace(msisdn, '[0-9](?=[0-9]{2})', '*', 'g') as msisdn, error_code, received_at,
                   settled_at, outcome, message_id, attempt_no, part_no, echo_message_id, echo_attempt_no
            from tollwire.receipts where id > $1 and id <= $2 and id < $3 order by id
            """,
        ),
        ArchiveTable(
            "tollwire.callbacks",
            "select o_last, o_rows from tollwire.chunk_end_v1('tollwire.callbacks', $1, $2, $3)",
            """
            select id, message_id, client_id, endpoint_id, event_type, sequence, attempts, created_at,
                   done_at, outcome, status, duration_ms
            from tollwire.callbacks where id > $1 and id <= $2 and id < $3 order by id
            """,
        ),
        ArchiveTable(
            "tollwire.callback_attempts",
            "select o_last, o_rows from tollwire.chunk_end_v1('tollwire.callback_attempts', $1, $2, $3)",
            """
            select callback_id, attempt_no, at, status, error, duration_ms, address
            from tollwire.callback_attempts where callback_id > $1 and callback_id <= $2 and callback_id < $3
            order by callback_id, attempt_no
            """,
        ),
        ArchiveTable(
            "tollwire.dead_letters",
            "select o_last, o_rows from tollwire.chunk_end_v1('tollwire.dead_letters', $1, $2, $3)",
            """
            select message_id, client_id, reason, attempts, at
            from tollwire.dead_letters where message_id > $1 and message_id <= $2 and message_id < $3
            order by message_id
            """,
        ),
    ),
)

ENTRIES: Final = Part(
    "entries",
    (
        ArchiveTable(
            "ledger.entries",
            """
            select c.account_id, c.version, c.rows from (
                select account_id, version, row_number() over (order by account_id, version) as rows
                from ledger.entries where day = $3 and (account_id, version) > ($1::bigint, $2::bigint)
                order by account_id, version limit $4) c
            order by c.rows desc limit 1
            """,
            """
            select account_id, version, day, at, kind, message_id, debit_account, credit_account,
                   amount_micros, posted_after_micros, held_after_micros, reference, reason, hash
            from ledger.entries
            where day = $5 and (account_id, version) > ($1::bigint, $2::bigint)
              and (account_id, version) <= ($3::bigint, $4::bigint)
            order by account_id, version
            """,
        ),
    ),
)
PARTS: Final[Mapping[str, Part]] = {part.name: part for part in (MESSAGES, ENTRIES)}
