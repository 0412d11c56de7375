"""What the client orders: drawn from a seed, so that the same seed orders the same. Pure."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from tests.chaos.instance import CARRIERS
from tests.chaos.logs import Offer, Word
from tests.chaos.scene import Account

LANES: Final = ("express", "normal", "normal", "bulk")
# None: the lane's own policy.
DELIVERIES: Final = ("at_most_once", "at_least_once", None)
LONG_TEXT: Final = " and more" * 20
BATCH_ITEMS: Final = 10
# The shortest validity that the API takes.
HASTY_SECONDS: Final = 60


class Habits(msgspec.Struct, frozen=True):
    """How often, as a share, the client does what. ``hasty``: orders that are valid for a minute only."""

    batch: float = 0.03
    scheduled: float = 0.02
    long: float = 0.1
    twin: float = 0.02
    again: float = 0.03
    cancel: float = 0.01
    hasty: float = 0.0


@dataclass(frozen=True, slots=True)
class Words:
    """What an answer said: definite words, and what is still doubtful."""

    known: list[Word]
    doubt: str | None


@dataclass(frozen=True, slots=True)
class Order:
    """One request to make, and to repeat byte for byte.

    ``twin_seconds``: when the same request is made once more, whatever came of the first.
    """

    key: str
    api_key: str
    path: str
    body: bytes
    offers: list[Offer]
    twin_seconds: list[float] = field(default_factory=list)
    cancels: bool = False

    def words(self, at: float, status: int, body: bytes) -> Words:
        """Read a definite answer."""
        try:
            answer = msgspec.json.decode(body)
        except msgspec.MsgspecError:
            return Words([], "an answer that is cut off")
        if status != 202:
            return Words([Word(at, offer.key, code=str(answer["code"])) for offer in self.offers], None)
        if "results" not in answer:
            return Words([Word(at, self.key, id=answer["id"])], None)
        return self._batch_words(at, answer["results"])

    def _batch_words(self, at: float, results: Sequence[dict[str, object]]) -> Words:
        known, doubt = [], None
        for offer, result in zip(self.offers, results, strict=True):
            problem = result.get("problem")
            if not isinstance(problem, dict):
                known.append(Word(at, offer.key, id=str(result["id"])))
            elif problem["status"] >= 500 or problem["status"] in {409, 429}:
                doubt = f"item {problem['code']}"
            else:
                known.append(Word(at, offer.key, code=str(problem["code"])))
        return Words(known, doubt)


def draw_order(
    run: str, number: int, drawn: random.Random, accounts: Sequence[Account], habits: Habits
) -> Order:
    """Draw the ``number``-th order of a run."""
    account = drawn.choices(accounts, [account.share for account in accounts])[0]
    key = f"{run}-{number}"
    is_batch = drawn.random() < habits.batch
    keys = [f"{key}.{item}" for item in range(BATCH_ITEMS)] if is_batch else [key]
    messages = [_draw_message(one, drawn, habits) for one in keys]
    twins = [drawn.uniform(0.0, 0.005)] if drawn.random() < habits.twin else []
    twins += [drawn.uniform(0.5, 10.0)] if drawn.random() < habits.again else []
    return Order(
        key=key,
        api_key=account.key,
        path="/v1/messages/batch" if is_batch else "/v1/messages",
        body=msgspec.json.encode({"messages": messages} if is_batch else messages[0]),
        offers=[_offer(account, *pair) for pair in zip(keys, messages, strict=True)],
        twin_seconds=twins,
        cancels=not is_batch and drawn.random() < habits.cancel,
    )


def _draw_message(key: str, drawn: random.Random, habits: Habits) -> dict[str, str | int]:
    numbers = {"49": "+49151{:08d}", "44": "+4474001{:05d}"}
    pattern = numbers[drawn.choice(CARRIERS).prefix]
    to = pattern.format(
        20_000_000 + drawn.randrange(9_999_999) if "08d" in pattern else drawn.randrange(99_999)
    )
    text = f"chaos {key}" + (LONG_TEXT if drawn.random() < habits.long else "")
    message: dict[str, str | int] = {"to": to, "text": text, "lane": drawn.choice(LANES), "client_ref": key}
    if (delivery := drawn.choice(DELIVERIES)) is not None:
        message["delivery"] = delivery
    if drawn.random() < habits.scheduled:
        message["send_at"] = (datetime.now(UTC) + timedelta(seconds=drawn.uniform(1, 5))).isoformat()
    if habits.hasty and drawn.random() < habits.hasty:
        message["valid_for_seconds"] = HASTY_SECONDS
    return message


def _offer(account: Account, key: str, message: dict[str, str | int]) -> Offer:
    delivery = message.get("delivery") or (
        "at_least_once" if message["lane"] == "express" else "at_most_once"
    )
    sha = hashlib.sha256(str(message["text"]).encode()).hexdigest()
    return Offer(0.0, key, account.name, str(message["to"]), str(delivery), sha)
