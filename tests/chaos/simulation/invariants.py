"""What must be true after each step and at the end of a run, whoever says it.

Judged from the rows and from the logs of those outside: clients, carriers, endpoints. Nothing here knows how
the server decides.
"""

from collections import Counter, defaultdict
from typing import Any, Final, NamedTuple

from shared.domain.states import TRANSITIONS, MessageState
from tests.chaos.simulation.wire import DAY, Rows
from tests.chaos.simulation.world import Submit, World

FINAL: Final = frozenset(state.value for state in MessageState if state.is_final)
MOVES: Final = frozenset((a.value, b.value) for (a, _), b in TRANSITIONS.items())
FINAL_WORDS: Final = frozenset({"delivered", "undelivered", "expired", "rejected"})
FREES: Final = frozenset({"UNDELIVERED", "EXPIRED", "FAILED_PERM", "CANCELLED"})
# A receipt is matched within days; one that comes later may find its message gone.
SOON_US: Final = 3 * DAY
EVENT_OF: Final = {
    "DELIVERED": "message.delivered", "UNDELIVERED": "message.undelivered", "EXPIRED": "message.expired",
    "FAILED_PERM": "message.failed", "CANCELLED": "message.cancelled",
}  # fmt: skip


class BrokenError(Exception):
    """An invariant does not hold."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(f"{name}: {sentence}")
        self.name = name


class State(NamedTuple):
    """A row of ``messages`` in a snapshot."""

    state: str
    lock: str | None
    is_late_captured: bool
    is_late: bool
    is_possible_duplicate: bool
    tries: int
    attempt_no: int
    parts_delivered: int
    sequence: int
    carrier: int | None
    claim_deadline_us: int | None
    submitted_us: int | None
    final_us: int | None
    error: str | None


def must(name: str, is_so: bool, sentence: object) -> None:
    """Raise when it is not so."""
    if not is_so:
        raise BrokenError(name, str(sentence))


class Judge:
    """Looks after every step; remembers the step before."""

    def __init__(self) -> None:
        self._before: Rows = {}
        self._seen_submits = 0

    def __call__(self, world: World, rows: Rows) -> None:
        must("one message a key", not world.logs.twice_by_key, world.logs.twice_by_key)
        told = world.logs.told_accepted
        must("accepted is there", {str(m) for m in told} <= rows["messages"].keys(), told)
        fresh = world.logs.submits[self._seen_submits :]
        if rows == self._before and not fresh:
            return  # what was judged a moment ago
        messages = {key: State(*row) for key, row in rows["messages"].items()}
        money(world, rows, messages)
        within_credit(self._before, rows)
        moves(self._before, rows, messages)
        for submit in fresh:
            sent_twice(world, submit, messages)
        self._seen_submits = len(world.logs.submits)
        claims(world, rows, messages)
        handed_over(world, rows, messages)
        receipts(world, rows)
        self._before = rows


def money(world: World, rows: Rows, messages: dict[str, State]) -> None:
    """Balances are the fold of the entries; entries tell one story a hold; no account is below its limit."""
    held: Counter[int] = Counter()
    opened: Counter[int] = Counter()
    for key, message in messages.items():
        want = world.logs.wants[key]
        must("one hold a message", message.lock is not None, key)
        if message.lock == "HELD":
            held[want.account] += want.amount
            opened[want.account] += 1
    stories: defaultdict[str, list[str]] = defaultdict(list)
    folds = fold(rows["entries"], stories)
    for key, row in rows["accounts"].items():
        account = int(key)
        posted, on_hold, limit, overdrawn, open_holds, version = row[:6]
        must("held is what locks hold", (on_hold, open_holds) == (held[account], opened[account]), (key, row))
        must(
            "a balance is the fold of its entries",
            folds[account] == (posted, on_hold, version),
            (key, row, folds[account]),
        )
        must("no account below its limit", posted - on_hold + limit + overdrawn >= 0, (key, row))
        must("overdrawn is what is missing", overdrawn == max(0, on_hold - posted - limit), (key, row))
    for key, message in messages.items():
        told = stories[key]
        ends = {"HELD": [], "CAPTURED": ["capture"], "RELEASED": ["release"]}[message.lock or "HELD"]
        late = ["late_capture"] if message.is_late_captured else []
        must("one chain of entries a hold", told == ["hold", *ends, *late], (key, told, message))


def within_credit(before: Rows, rows: Rows) -> None:
    """What was held in this step fitted into what was left."""
    for key in rows["entries"].keys() - before.get("entries", {}).keys():
        kind, _, amount, posted, held, _ = rows["entries"][key]
        limit = rows["accounts"][key.split("/")[0]][2]
        must(
            "a hold fits into the credit",
            kind != "hold" or amount == 0 or posted - held + limit >= 0,
            (key, posted, held, limit),
        )


def fold(
    entries: dict[str, tuple[Any, ...]], stories: defaultdict[str, list[str]]
) -> dict[int, tuple[int, int, int]]:
    """(posted, held, version) of each account from its entries, which have no gap."""
    folds: dict[int, tuple[int, int, int]] = {}
    for key in sorted(entries, key=lambda key: [int(number) for number in key.split("/")]):
        account, version = map(int, key.split("/"))
        kind, message, amount, posted_after, held_after, _ = entries[key]
        posted, held, before = folds.get(account, (0, 0, 0))
        must("versions without a gap", version == before + 1, (account, before, version))
        if kind in ("top_up", "adjustment"):
            posted = posted_after if kind == "adjustment" else posted + amount
            must(
                "an adjustment's amount",
                abs(posted_after - folds.get(account, (0, 0, 0))[0]) == amount,
                version,
            )
        held += amount if kind == "hold" else -amount if kind in ("capture", "release") else 0
        posted -= amount if kind in ("capture", "late_capture") else 0
        must("an entry's balances", (posted, held) == (posted_after, held_after), (account, version, kind))
        folds[account] = (posted, held, version)
        if message is not None:
            stories[message].append(kind)
    return folds


def moves(before: Rows, rows: Rows, messages: dict[str, State]) -> None:
    """States move by the table, a final one never; hold and outbox fit the state."""
    earlier = {key: State(*row) for key, row in before.get("messages", {}).items()}
    for key, now in messages.items():
        was = earlier.get(key)
        if was is not None and was.state != now.state:
            must("moves are in the table", (was.state, now.state) in MOVES, (key, was.state, now.state))
        if was is not None:
            must(
                "a move is counted", (was.sequence < now.sequence) or was.state == now.state, (key, was, now)
            )
            must("a hold ends once", was.lock in ("HELD", now.lock), (key, was.lock, now.lock))
        is_final = now.state in FINAL
        must("final states have a time", is_final == (now.final_us is not None), (key, now))
        must("an end ends the hold", not is_final or now.lock != "HELD", (key, now))
        is_waiting = not is_final and now.state != "SENT"
        must("who waits is looked after", not is_waiting or key in rows["outbox"], (key, now.state))
        must("who is done is forgotten", is_waiting or key not in rows["outbox"], (key, now.state))
    must("nothing disappears", earlier.keys() <= messages.keys(), earlier.keys() - messages.keys())


def charged(world: World, key: str, message: State, no_receipt: set[str]) -> None:
    """Taken when delivered (or submitted, where the plan says so), else given back."""
    want = world.logs.wants[key]
    if want.charge == "delivered" and message.lock == "CAPTURED":
        must(
            "captured only when delivered", message.state == "DELIVERED" or key in no_receipt, (key, message)
        )
    if message.lock == "RELEASED":
        must("released only when not delivered", message.state in FREES, (key, message))
    if message.state == "DELIVERED":
        must("delivered is taken", message.lock == "CAPTURED", (key, message))
    if want.charge == "submitted" and want.parts == 1 and message.state == "UNDELIVERED":
        # The simulation's carriers never say "rejected": who says "undelivered" had taken it.
        must("submitted is taken, whatever came first", message.lock == "CAPTURED", (key, message))


def sent_twice(world: World, submit: Submit, messages: dict[str, State]) -> None:
    """at_most_once reaches a carrier that forgets once; at_least_once twice only with its flag."""
    if submit.is_repeated:
        return
    same = [
        s
        for s in world.logs.submits
        if not s.is_repeated and (s.message, s.part) == (submit.message, submit.part)
    ]
    if len(same) < 2:
        return
    want, message = world.logs.wants[str(submit.message)], messages[str(submit.message)]
    must("at_most_once is sent once", want.delivery != "at_most_once", same)
    must("sent twice is flagged", message.is_possible_duplicate, same)
    must("sent again once", len(same) == 2, same)


def claims(world: World, rows: Rows, messages: dict[str, State]) -> None:
    """A token is one claim's; tokens have no gap; what is being sent has a deadline and no outcome yet."""
    tokens: defaultdict[str, set[int]] = defaultdict(set)
    silent: set[str] = set()
    for key, (_, outcome, _, _) in rows["attempts"].items():
        message, number, _ = key.split("/")
        tokens[message].add(int(number))
        if outcome is None and int(number) == messages[message].attempt_no:
            silent.add(message)
    for key, message_ in messages.items():
        must(
            "tokens without a gap", tokens[key] == set(range(1, message_.attempt_no + 1)), (key, tokens[key])
        )
        if message_.state == "SENDING":
            must(
                "a claim has a deadline",
                message_.claim_deadline_us is not None and key in silent,
                (key, message_),
            )
    for token, times in world.logs.claims.items():
        must("a claim is won once", times == 1, token)
    for work, times in world.logs.published.items():
        must("a dispatch number is published once", times == 1, work)


def handed_over(world: World, rows: Rows, messages: dict[str, State]) -> None:
    """What carriers say they have, in all its parts, waits for nothing but receipts."""
    taken: defaultdict[str, set[str]] = defaultdict(set)
    for key, (_, outcome, _, word) in rows["attempts"].items():
        message, _, part = key.split("/")
        if outcome == "submitted" and word not in FINAL_WORDS - {"delivered"}:
            taken[message].add(part)
    for message, parts in taken.items():
        is_waiting = messages[message].state in ("QUEUED", "FAILED_TEMP", "UNKNOWN")
        is_whole = len(parts) == world.logs.wants[message].parts
        must("what was taken is sent", not (is_waiting and is_whole), (message, messages[message], parts))


def receipts(world: World, rows: Rows) -> None:
    """What a carrier said of a part stands on that part alone, and is of no other message than it names."""
    for key, (_, settled, *_) in rows["receipts"].items():
        echoed = world.logs.words[key].echo_message
        must(
            "a receipt is the message's that it echoes",
            None in (settled, echoed) or settled == str(echoed),
            key,
        )
    said: defaultdict[tuple[int, str], set[tuple[str, int, str]]] = defaultdict(set)
    for submit, word in world.logs.said:
        said[submit.carrier, submit.reference].add((str(submit.message), submit.part, word))
    for key, (carrier, _, reference, word) in rows["attempts"].items():
        message, _, part = key.split("/")
        named = {(message_, part_) for message_, part_, _ in said[carrier, reference]}
        if word is None or reference is None or len(named) > 1:
            continue  # of a name that a carrier gave twice nobody can tell whose word it is
        must(
            "a receipt is the part's own",
            (message, int(part), word) in said[carrier, reference],
            (key, reference, word),
        )


def at_the_end(world: World, rows: Rows) -> None:
    """When everything is quiet: all is final, told, and paid as the carriers say."""
    messages = {key: State(*row) for key, row in rows["messages"].items()}
    must("everything comes to an end", all(m.state in FINAL for m in messages.values()),
         {key: m.state for key, m in messages.items() if m.state not in FINAL})  # fmt: skip
    must("nothing waits", not rows["outbox"], rows["outbox"])
    for key, row in rows["callbacks"].items():
        must("every callback is told", row[-1] is not None, (key, row))
    no_receipt = {
        row[1] for row in rows["entries"].values() if row[5] == "no_receipt" and row[0] == "capture"
    }
    for key, message in messages.items():
        charged(world, key, message, no_receipt)
        told_of(world, key, message)
        as_the_carrier_says(world, rows, key, message)


def told_of(world: World, key: str, message: State) -> None:
    """The client hears of the end, as it was."""
    want = world.logs.wants[key]
    event = EVENT_OF[message.state]
    if event not in world.clients[want.account].events:
        return
    order = [post[3] for post in world.logs.posts if str(post[1]) == key]
    must("what is told is told in order", order == sorted(order), (key, order))
    heard = [post for post in world.logs.posts if str(post[1]) == key and post[2] == event]
    must("the end is told", bool(heard), (key, message.state))
    must("the end is told once", len({post[0] for post in heard}) == 1, (key, heard))
    must("what is told is so", all(post[4] == message.state for post in heard), (key, heard))


def as_the_carrier_says(world: World, rows: Rows, key: str, message: State) -> None:
    """Delivered and heard in time is charged; charged as delivered was delivered."""
    want = world.logs.wants[key]
    of_message = [(s, w) for s, w in world.logs.said if str(s.message) == key]
    delivered = {s.part for s, w in of_message if w == "delivered"}
    is_charged = message.state == "DELIVERED" or message.is_late_captured
    if is_charged and not _is_lied_about(world, key):
        must("charged is delivered", len(delivered) == want.parts, (key, message, of_message))
    if _parts_heard(world, rows, key) == set(range(1, want.parts + 1)):
        is_told = message.state == "DELIVERED" or message.is_late
        must("delivered is seen", is_told, (key, message, of_message))


def _is_lied_about(world: World, key: str) -> bool:
    """The carrier gave a part of it a name that another part has."""
    named: defaultdict[tuple[int, str], set[tuple[str, int]]] = defaultdict(set)
    for submit in world.logs.submits:
        named[submit.carrier, submit.reference].add((str(submit.message), submit.part))
    return any(len(parts) > 1 and any(of == key for of, _ in parts) for parts in named.values())


def _parts_heard(world: World, rows: Rows, key: str) -> set[int]:
    """Parts that were delivered by a submit of a name of its own, which was recorded and soon heard of."""
    # A name that only a receipt told, beside our own id, leads no other receipt there.
    recorded = {
        (row[0], row[2]) for name, row in rows["attempts"].items()
        if name.startswith(key) and row[1] == "submitted"
    }  # fmt: skip
    parts = set()
    for submit, word in world.logs.said:
        name = (submit.carrier, submit.reference)
        named = {(s.message, s.part) for s in world.logs.submits if (s.carrier, s.reference) == name}
        heard_us = world.logs.heard.get((*name, word))
        is_soon = heard_us is not None and heard_us - submit.at_us < SOON_US
        is_known = name in recorded and len(named) == 1
        is_whole = submit.message not in world.logs.lost
        if str(submit.message) == key and word == "delivered" and is_soon and is_known and is_whole:
            parts.add(submit.part)
    return parts
