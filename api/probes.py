"""What probes and programs ask of the service itself: health, readiness, the dictionary of refusals."""

from typing import Annotated

from msgspec import Meta, Struct

from api.health import Liveness, Readiness
from api.problems import STATUS, TYPE_BASE
from api.resources import Resources
from api.routing import Call, Reply
from shared.domain.problem_kinds import PROBLEMS
from shared.domain.problems import ProblemCode


class ErrorKind(Struct, frozen=True):
    """One line of the dictionary of refusals."""

    code: ProblemCode
    status: int
    type: str
    title: str
    detail: Annotated[str, Meta(description="The sentence, with its arguments in braces.")]
    remedy: Annotated[str, Meta(description="What to do.")]
    remembered: Annotated[bool, Meta(description="Stands under its Idempotency-Key.")]
    repeatable: Annotated[bool, Meta(description="The same request may succeed later.")]


class ErrorDictionary(Struct, frozen=True):
    """Every code that the API answers with. Codes are added, never changed."""

    errors: list[ErrorKind]


DICTIONARY = ErrorDictionary(
    [
        ErrorKind(
            code=kind.code,
            status=STATUS[kind.code],
            type=TYPE_BASE + kind.code,
            title=kind.title,
            detail=kind.detail,
            remedy=kind.remedy,
            remembered=kind.remembered,
            repeatable=kind.repeatable,
        )
        for kind in PROBLEMS.values()
    ]
)


async def list_errors(_resources: Resources, _call: Call) -> ErrorDictionary:
    """Get the dictionary of refusals."""
    return DICTIONARY


async def get_liveness(_resources: Resources, _call: Call) -> Liveness:
    """Get liveness.

    Looks at nothing but the event loop: restarting this process heals no database.
    """
    return Liveness("ok")


async def get_readiness(resources: Resources, _call: Call) -> Reply[Readiness]:
    """Get readiness.

    PostgreSQL and its schema decide; NATS and Valkey are reported and don't: without them messages are
    still accepted.
    """
    readiness = await resources.health.look()
    return Reply(readiness, status=200 if readiness.status == "ready" else 503)
