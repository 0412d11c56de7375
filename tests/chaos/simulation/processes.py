"""What the processes do, one call after the other (the ways of api, worker, dlr and ledger in short)."""

from functools import partial
from typing import Any, Final
from uuid import UUID

from tests.chaos.simulation.program import Choices
from tests.chaos.simulation.wire import CLAIM_SECONDS, SECOND, Answer, Line, Server, Want, Word
from tests.chaos.simulation.world import Bundle, Submit, World

VERDICTS: Final = (
    *["submitted"] * 8, "refused_temp", "refused_perm", "throttled", "uncertain_taken", "uncertain_taken",
    "uncertain_lost", "unclaimed",
)  # fmt: skip
# A carrier that has no place for more (docs/adr/0017).
PUT_OFF_ONE_IN: Final = 15
# See worker/store.py.
RECORD_US: Final = 120 * SECOND
# See dlr/deliver.py: what could not end within its lease is not begun.
POST_US: Final = 40 * SECOND
WORDS: Final = (*["delivered"] * 5, "undelivered", "expired", "enroute")


async def accept(world: World, wants: list[Want], choices: Choices) -> None:
    """The api accepts a flush, answers, and publishes."""
    for want in wants:
        world.logs.wants.setdefault(str(want.message), want)
    world.say("clients want", [tuple(want) for want in wants])
    incarnation = world.incarnation
    answers = await world.call(choices, "api accepts", lambda s: s.accept(wants, incarnation))
    groups: dict[int, list[tuple[UUID, int]]] = {}
    for want, answer in zip(wants, answers, strict=True):
        outcome, message = answer[0], answer[1]
        if outcome in ("accepted", "replayed"):
            world.logs.told_accepted.add(message)
            _note_key(world, want, message)
        if outcome == "accepted" and answer[5]:
            groups.setdefault(want.carrier, []).append((message, 1))
    for carrier, work in groups.items():
        world.add("api", "publish", partial(publish, world, carrier, work))


def _note_key(world: World, want: Want, message: UUID) -> None:
    if want.key is None:
        return
    of_key = (want.account, want.key, want.fingerprint)
    first, since_us = world.logs.keys.get(of_key, (message, world.now))
    # The day and a little: a key is kept 72 hours from its first use.
    if first != message and world.now - since_us < 72 * 3_600 * SECOND:
        world.logs.twice_by_key.append((first, message))
    if first == message or world.now - since_us >= 72 * 3_600 * SECOND:
        kept = since_us if first == message else world.now
        world.logs.keys[of_key] = (message, kept)


async def publish(world: World, carrier: int, work: list[tuple[UUID, int]], choices: Choices) -> None:
    """Put a bundle into the stream, or give the leases back."""
    if choices.rarely(12):
        await world.call(choices, "leases given back", lambda s: s.return_leases(work))
        return
    world.logs.published.update(work)
    world.stream.append(Bundle(carrier, work, world.now))
    world.old_bundles.append(world.stream[-1])
    world.say("published", work)


async def claim(world: World, bundle: Bundle, choices: Choices) -> None:
    """A worker claims a bundle's work, or puts it off; it stays in the stream when its ack is lost."""
    message, number = bundle.work[0]
    lot = message.int + number  # and no choice: the seeds that found a planted fault find it still
    if lot % PUT_OFF_ONE_IN == 0:
        seconds = (1.0, 8.0, 300.0)[lot // PUT_OFF_ONE_IN % 3]
        await world.call(choices, "worker puts off", lambda s: s.put_off(bundle.work, seconds))
        if not choices.rarely(6) and bundle in world.stream:
            world.stream.remove(bundle)
        return
    claim_id = world.new_id()
    at_us = world.now
    answers = await world.call(
        choices, "worker claims", lambda s: s.claim(bundle.work, bundle.carrier, claim_id)
    )
    if not choices.rarely(6) and bundle in world.stream:
        world.stream.remove(bundle)
    for (message, _), answer in zip(bundle.work, answers, strict=True):
        if answer[0] is None:
            world.logs.claims[message, answer[1]] += 1
            work = partial(submit, world, bundle.carrier, message, answer[1], answer[2], at_us)
            world.add("worker", "submit", work)


async def submit(
    world: World, carrier: int, message: UUID, attempt: int, parts: list[int], claimed_us: int,
    choices: Choices,
) -> None:  # fmt: skip
    """A worker writes to the carrier, but never after half of the claim's deadline (RULES 16)."""
    is_late = world.now > claimed_us + CLAIM_SECONDS * SECOND // 2
    lines = []
    for part in parts:
        verdict = "unclaimed" if is_late else choices.of(VERDICTS)
        reference = None
        if verdict in ("submitted", "uncertain_taken"):
            reference = _carrier_takes(world, carrier, message, attempt, part, choices)
        word = verdict.split("_taken", maxsplit=1)[0].split("_lost", maxsplit=1)[0]
        retry_seconds = float(choices.of((1, 0, 30)))
        others = [each for each in world.carriers if each != carrier]
        next_carrier = choices.of((None, None, *others)) if word == "refused_temp" else None
        error = None if word == "submitted" else word
        lines.append(
            Line(
                message, attempt, part, word, reference if word == "submitted" else None, error,
                retry_seconds, next_carrier,
            )
        )  # fmt: skip
    world.say("worker submits", [tuple(line) for line in lines])
    until_us = world.now + RECORD_US
    world.add("worker", "record", partial(record, world, carrier, until_us, lines=lines), carrier, lines)


def _carrier_takes(
    world: World, carrier: int, message: UUID, attempt: int, part: int, choices: Choices
) -> str:
    """What the carrier makes of a part: a reference, and words on it to come."""
    known = world.remembered.get((carrier, message, part))
    recognises = world.carriers[carrier].recognises
    if known is not None and recognises:
        world.logs.submits.append(Submit(carrier, message, attempt, part, known, True, world.now))
        return known
    # A carrier that lies calls two parts, of one message or of two, the same.
    if not choices.rarely(20) or world.references[carrier] == 0:
        world.references[carrier] += 1
    reference = f"r{world.references[carrier]}"
    world.remembered[carrier, message, part] = reference
    taken = Submit(carrier, message, attempt, part, reference, False, world.now)
    world.logs.submits.append(taken)
    state = choices.of(WORDS)
    words = [state, choices.of(WORDS[:-1])] if state == "enroute" else [state]
    for word in (*words, *([word for word in words if choices.rarely(8)])):
        world.logs.said.append((taken, word))
        world.add("carrier", f"receipt {reference} {word}", partial(deliver_receipt, world, taken, word))
    if world.logs.wants[str(message)].parts == 1 and choices.rarely(10):
        _tells_of_its_own_part(world, taken._replace(part=2), choices.of(WORDS))
    return reference


def _tells_of_its_own_part(world: World, taken: Submit, word: str) -> None:
    """What we submit whole a carrier may send in parts: a lost one is the message's end."""
    if word in ("undelivered", "expired"):
        world.logs.said.append((taken._replace(part=1), word))
        world.logs.lost.add(taken.message)
    label = f"receipt {taken.reference} part 2 {word}"
    world.add("carrier", label, partial(deliver_receipt, world, taken, word))


async def deliver_receipt(world: World, taken: Submit, state: str, choices: Choices) -> None:
    """The carrier tells dlr, who keeps the word before it says "received"."""
    number = world.logs.wants[str(taken.message)].msisdn
    msisdn = (None, number, f"+{number[3:]}")[choices.below(3)]  # the last: without its country's code
    is_ours = taken.part <= world.logs.wants[str(taken.message)].parts
    part = taken.part if choices.below(2) or not is_ours else None
    echo = taken.message if choices.below(2) else None
    word = Word(
        world.name("w"), taken.carrier, taken.reference, state, msisdn, part, echo,
        taken.attempt if echo and choices.below(2) else None,
    )  # fmt: skip
    world.logs.words[str(word.id)] = word
    world.say("carrier says", tuple(word))
    await world.call(choices, "dlr keeps", lambda s: s.receive([word]))
    if is_ours:
        world.logs.heard.setdefault((taken.carrier, taken.reference, state), world.now)
    world.add("dlr", "settle", partial(settle, world, receipts=[word.id]), payload=[word.id])


def _together(world: World, label: str, carrier: int, choices: Choices) -> list[Any]:
    """What else waits for the same flush."""
    if choices.below(2) == 0:
        return []
    others = [task for task in world.tasks if (task.label, task.carrier) == (label, carrier)]
    for task in others:
        world.tasks.remove(task)
    return [each for task in others for each in task.payload]


async def record(
    world: World, carrier: int, until_us: int, choices: Choices, lines: list[Line]
) -> None:  # fmt: skip
    """A worker records what the carrier said, unless that took too long."""
    if world.now > until_us:
        return
    every = [*lines, *_together(world, "record", carrier, choices)]
    answers = await world.call(choices, "worker records", lambda s: s.record(every, carrier))
    waiting = sorted({receipt for answer in answers for receipt in answer[2] or ()})
    if waiting:
        world.add("dlr", "settle", partial(settle, world, receipts=waiting), payload=waiting)


async def settle(world: World, choices: Choices, receipts: list[UUID]) -> None:
    """dlr settles receipts and posts what that asks for."""
    every = [*receipts, *_together(world, "settle", 0, choices)]
    answers = await world.call(choices, "dlr settles", lambda s: s.settle(every))
    for answer in answers:
        if answer[3] is not None:
            world.add("dlr", "post", partial(post, world, answer[3], world.now + POST_US))


async def post(world: World, callback: UUID, until_us: int, _: Choices) -> None:
    """dlr reads a callback that it has leased, and posts it in its endpoint's turn, if it is to be told."""
    ((skip, *told),) = await world.look("dlr loads", lambda s: s.load_callbacks([callback]))
    if skip == "superseded":
        world.add("dlr", "note", partial(note, world, (callback, told[2] + 1, skip)))
    elif skip is None:
        world.add("dlr", "turn", partial(turn, world, callback, told, until_us))


async def turn(world: World, callback: UUID, told: list[Any], until_us: int, choices: Choices) -> None:
    """The endpoint's turn has come; it may hear the callback without being heard."""
    event, sequence, attempts, message, state, _ = told
    if world.now > until_us:
        return
    outcome = choices.of(("delivered", "delivered", "delivered", "unheard", "refused"))
    if outcome in ("delivered", "unheard"):
        world.logs.posts.append((callback, message, event, sequence, state))
        world.say("endpoint hears", (message, event, sequence, state))
    kept = outcome if outcome == "delivered" else None
    world.add("dlr", "note", partial(note, world, (callback, attempts + 1, kept)))


async def note(world: World, line: tuple[UUID, int, str | None], choices: Choices) -> None:
    """dlr notes a try."""
    await world.call(choices, "dlr notes", lambda s: s.record_callbacks([line]))


async def sweep(world: World, choices: Choices) -> None:
    """The ledger looks at what is due, and does each kind of work in its turn."""
    due = await world.look("ledger looks", lambda s: s.look_due())
    for work, messages in sorted(due.items()):
        if work in ("expire", "start", "recover"):
            world.add("ledger", work, partial(_look_after, world, work, messages))
    wait, forget = due.get("wait", []), due.get("forget", [])
    if wait or forget:

        async def tidy(choices: Choices) -> None:
            await world.call(choices, "ledger tidies", lambda s: s.tidy(wait, forget))

        world.add("ledger", "tidy", tidy)
    if due.get("dispatch"):
        world.add("ledger", "dispatch", partial(dispatch, world, due["dispatch"]))


async def _look_after(world: World, work: str, messages: list[UUID], choices: Choices) -> None:
    async def call(server: Server) -> list[Answer]:
        if work == "expire":
            return await server.expire_due(messages)
        return await (server.start(messages) if work == "start" else server.recover(messages))

    await world.call(choices, f"ledger: {work}", call)


async def dispatch(world: World, messages: list[UUID], choices: Choices) -> None:
    """The ledger publishes what is not in the stream."""
    oldest = min((bundle.published_us for bundle in world.stream), default=None)
    incarnation = world.incarnation
    leased = await world.call(
        choices, "ledger dispatches", lambda s: s.dispatch(messages, oldest, incarnation)
    )
    groups: dict[int, list[tuple[UUID, int]]] = {}
    for message, number, carrier in leased:
        groups.setdefault(carrier, []).append((message, number))
    for carrier, work in groups.items():
        world.add("ledger", "publish", partial(publish, world, carrier, work))


async def expire_holds(world: World, choices: Choices) -> None:
    """The ledger walks the holds."""
    held = await world.look("ledger walks", lambda s: s.held_long())
    if held:
        await world.call(choices, "ledger ends holds", lambda s: s.expire_holds(held))


async def sweep_receipts(world: World, choices: Choices) -> None:
    """dlr takes over receipts that are due again."""
    due = await world.call(choices, "dlr leases receipts", lambda s: s.lease_receipts())
    if due:
        world.add("dlr", "settle", partial(settle, world, receipts=due), payload=due)


async def sweep_callbacks(world: World, choices: Choices) -> None:
    """dlr takes over callbacks that are due."""
    for callback in await world.call(choices, "dlr leases callbacks", lambda s: s.lease_callbacks()):
        world.add("dlr", "post", partial(post, world, callback, world.now + POST_US))
