"""One run: a program is carried out step by step, then everything is left to settle, then it is judged."""

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from shared.runtime.postgres import OutcomeUnknown
from tests.chaos.simulation import processes
from tests.chaos.simulation.both import DisagreementError
from tests.chaos.simulation.invariants import BrokenError, Judge, at_the_end
from tests.chaos.simulation.program import Choices, Step
from tests.chaos.simulation.wire import DAY, HOUR, NO_RECEIPT_SECONDS, SECOND, Carrier, Client, Server, Want
from tests.chaos.simulation.world import PROCESSES, DiedError, Task, World

EVENTS: Final = (
    "message.sent", "message.delivered", "message.undelivered", "message.expired", "message.failed",
    "message.cancelled", "message.late_receipt",
)  # fmt: skip
CLIENTS: Final = (
    Client(11, 60, 0, EVENTS),
    Client(12, 1_000, 0, EVENTS[1:]),
    Client(13, 1_000, 3 * SECOND, ()),
)
CARRIERS: Final = (Carrier(1, False, "release"), Carrier(2, True, "capture"))
LEAPS: Final = (
    *[SECOND] * 12, *[6 * SECOND] * 6, *[31 * SECOND] * 8, *[66 * SECOND] * 8, *[301 * SECOND] * 2,
    601 * SECOND, 3_601 * SECOND, 7_201 * SECOND, 12 * HOUR, 2 * DAY,
)  # fmt: skip
AMOUNTS: Final = (10, 0, 1, 25, 60)
# A run stays within the days that have partitions, with room for what settles at the end.
PROGRAM_MAX_US: Final = 12 * DAY
SETTLE_TURNS_MAX: Final = 400
SETTLE_LEAPS: Final = (*[66 * SECOND] * 10, *[601 * SECOND] * 4, *[3_601 * SECOND] * 4, 97 * HOUR)
TASKS_MAX: Final = 3_000
OUTPACED_ONE_IN: Final = 6
# A claim's deadline and its margin, then the wait of what is asked again.
OUTPACED_LEAPS: Final = (66 * SECOND, 2 * SECOND)


class Failure(NamedTuple):
    """What a run found."""

    name: str
    sentence: str
    trace: str


class Outcome(NamedTuple):
    """What became of a run."""

    failure: Failure | None
    calls: int
    messages: int


async def carry_out(server: Server, seed: int, program: Sequence[Step]) -> Outcome:
    """Carry a program out on a server."""
    world = World(server, seed, list(CLIENTS), list(CARRIERS), Judge())
    failure = None
    try:
        await server.at(0)
        await server.open(list(CLIENTS), list(CARRIERS))
        for step in program:
            await _step(world, step)
        await _settle(world)
        at_the_end(world, world.rows)
    except (BrokenError, DisagreementError) as error:
        name = error.name if isinstance(error, BrokenError) else "the database is as the oracle says"
        failure = Failure(name, str(error), world.told())
    except OutcomeUnknown:
        raise  # the machine stood still: that says nothing of the functions
    except Exception as error:  # noqa: BLE001 - whatever a server raises is a finding
        failure = Failure(type(error).__name__, repr(error), world.told())
    return Outcome(failure, world.calls, len(world.logs.wants))


async def _step(world: World, step: Step) -> None:
    choices = Choices(step.numbers)
    try:
        await _does(world, step.word, choices)
    except DiedError:
        world.say("the answer is lost, and who asked for it")


async def _does(world: World, word: str, choices: Choices) -> None:
    sweeps = {
        "sweep": processes.sweep,
        "turn": _turn,
        "receipts": processes.sweep_receipts,
        "callbacks": processes.sweep_callbacks,
        "holds": processes.expire_holds,
        "run": _run_one,
        "retry": _retry,
    }
    if word in sweeps:
        await sweeps[word](world, choices)
        return
    match word:
        case "accept":
            await processes.accept(world, _wants(world, choices), choices)
        case "outwait":
            _advance(world, NO_RECEIPT_SECONDS * SECOND)
            await processes.expire_holds(world, choices)
            await _turn(world, choices)
        case "advance":
            _advance(world, choices.of(LEAPS))
            if choices.rarely(OUTPACED_ONE_IN):
                await _outpaced(world, choices.more())
        case "crash":
            world.crash(choices.of(PROCESSES))
        case _:
            await _from_outside(world, word, choices)


async def _turn(world: World, choices: Choices) -> None:
    """The ledger does all its work before anybody else does anything."""
    await processes.sweep(world, choices)
    while own := [task for task in world.tasks if task.owner == "ledger"]:
        world.tasks.remove(own[0])
        await own[0].work(choices)


async def _outpaced(world: World, choices: Choices) -> None:
    """Workers hang with answers in their hands; their claims are taken over, and others go on."""
    await _submitted(world, choices)
    held = _taken_out(world, "record")
    try:
        for leap_us in OUTPACED_LEAPS:
            _advance(world, leap_us)
            await _turn(world, choices)
        await _submitted(world, choices)
        for task in _taken_out(world, "record"):
            await task.work(choices)
    finally:
        world.tasks += held


async def _submitted(world: World, choices: Choices) -> None:
    """Workers claim what is in the stream, and carriers have answered all of it."""
    for bundle in list(world.stream):
        await processes.claim(world, bundle, choices)
    for task in _taken_out(world, "submit"):
        await task.work(choices)


def _taken_out(world: World, label: str) -> list[Task]:
    found = [task for task in world.tasks if task.label == label]
    world.tasks = [task for task in world.tasks if task.label != label]
    return found


async def _from_outside(world: World, word: str, choices: Choices) -> None:
    account = CLIENTS[choices.below(len(CLIENTS))].account
    match word:
        case "cancel":
            known = sorted(world.rows.get("messages", {}))
            if known:
                want = world.logs.wants[choices.of(known)]
                await world.call(choices, "cancel", lambda s: s.cancel([(want.account, want.message)]))
        case "credit":
            kind = choices.of(("top_up", "adjustment", "adjustment", "credit_limit"))
            amount = choices.of((50, 10)) * (-1 if kind == "adjustment" and choices.below(2) else 1)
            reference = choices.of("xyz")
            await world.call(
                choices, f"credit {kind} {amount}", lambda s: s.credit(account, kind, amount, reference)
            )
        case "suspend":
            is_suspended = choices.below(3) > 0
            await world.make(f"suspended {is_suspended}", lambda s: s.suspend(account, is_suspended))
        case "wipe":
            world.stream.clear()
            world.incarnation += 1
            world.say("the stream is wiped")
        case _:
            if world.old_bundles:
                bundle = choices.of(world.old_bundles)
                world.stream.append(bundle)
                world.say("an old bundle comes back", bundle.work)


def _advance(world: World, leap_us: int) -> None:
    if world.now + leap_us < PROGRAM_MAX_US:
        world.now += leap_us
        world.say(f"{leap_us / SECOND:g} s go by")


def _wants(world: World, choices: Choices) -> list[Want]:
    wants: list[Want] = []
    for _ in range(1 + choices.below(3)):
        if wants and choices.rarely(8):
            wants.append(wants[-1])  # the very same position twice (RULES 5)
            continue
        seconds = choices.of((None, None, None, 30, 100))
        wants.append(
            Want(
                CLIENTS[choices.below(len(CLIENTS))].account,
                world.name("m"),
                CARRIERS[choices.below(len(CARRIERS))].id,
                choices.of((None, None, "a", "b", "c")),
                choices.of((b"1" * 32, b"1" * 32, b"1" * 32, b"2" * 32)),
                choices.of(AMOUNTS),
                choices.of((None, None, None, 10)),
                choices.of(("delivered", "delivered", "submitted")),
                choices.of(("at_most_once", "at_least_once")),
                choices.of((1, 1, 1, 2, 3)),
                choices.of(("+4915112345678", "+4915112345679")),
                world.now + seconds * SECOND if seconds else None,
                choices.of((600, 600, 3 * 86_400, 90)),
            )
        )
    return wants


async def _retry(world: World, choices: Choices) -> None:
    """A client asks again with the key it asked with before: a new id, all else the same."""
    keyed = [want for want in world.logs.wants.values() if want.key is not None]
    if keyed:
        want = choices.of(keyed)
        await processes.accept(world, [want._replace(message=world.name("m"))], choices)


async def _run_one(world: World, choices: Choices) -> None:
    ready = len(world.tasks) + len(world.stream)
    if ready == 0:
        return
    number = choices.below(ready)
    if number < len(world.tasks):
        task = world.tasks.pop(number)
        await task.work(choices)
        return
    await processes.claim(world, world.stream[number - len(world.tasks)], choices)


async def _settle(world: World) -> None:
    """No more faults: everybody goes on with what there is, until all is quiet."""
    world.say("from here on nothing breaks")
    for leap_us in SETTLE_LEAPS:
        await _quiet(world)
        world.now += leap_us
        world.say(f"{leap_us / SECOND:g} s go by")
        for sweep in (
            processes.sweep,
            processes.sweep_receipts,
            processes.sweep_callbacks,
            processes.expire_holds,
        ):
            await partial(sweep, world)(Choices())
    await _quiet(world)


async def _quiet(world: World) -> None:
    for _ in range(TASKS_MAX):
        if not world.tasks and not world.stream:
            return
        await _run_one(world, Choices())
    raise BrokenError(
        "everything comes to an end", f"tasks without end: {[task.label for task in world.tasks]}"
    )
