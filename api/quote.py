"""What a message would be and cost: the one function behind the preview and the bill (RULES 14)."""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Struct

from api.callers import Client
from api.problems import FieldError, Refusal, invalid_field
from shared.domain.msisdn import InvalidMsisdn, Msisdn, parse_msisdn
from shared.domain.problems import ProblemCode
from shared.domain.rates import NoRate, RateTable
from shared.domain.segments import Segmented, TextError, TextTooLong, segment
from shared.domain.senders import RULE as SENDER_RULE
from shared.domain.senders import is_sender
from shared.storage.config import EVERYBODY, CarrierConfig, Routes


@dataclass(frozen=True, slots=True)
class Prices:
    """What quoting needs of the configuration, at one version."""

    rates: dict[tuple[int, str], RateTable]
    carriers: dict[int, CarrierConfig]
    routes: Routes

    def table(self, client: Client) -> RateTable | None:
        """The client's own rates, laid over everybody's in its currency, or those alone."""
        return self.rates.get((client.id, client.currency)) or self.rates.get((EVERYBODY, client.currency))


class Quote(Struct, frozen=True, gc=False):
    """A message, measured and priced. ``blocked`` is the refusal that stands under its idempotency key."""

    msisdn: Msisdn
    sender: str
    segmented: Segmented
    amount_micros: int
    currency: str
    rate_version: int
    carrier: CarrierConfig
    blocked: Refusal | None

    @property
    def parts(self) -> int:
        """How many parts are submitted: carriers take whole texts, until one comes that we split for."""
        return 1


def quote(prices: Prices, client: Client, to: str, text: str, sender: str | None, *, is_test: bool) -> Quote:
    """Measure and price a message. Test messages cost nothing and go to a simulator (RULES 38).

    Raises:
        Refusal: invalid_number, text_too_long, text_not_storable, no_rate, no_route.
    """
    msisdn, segmented = _measured(to, text)
    chosen = sender or client.default_sender
    carrier = _carrier(prices, msisdn, is_test=is_test)
    blocked = _blocked(client, msisdn, chosen)
    amount, version = (0, 0) if blocked else _price(prices, client, msisdn, segmented.count)
    if is_test:
        amount = 0
    return Quote(msisdn, chosen, segmented, amount, client.currency, version, carrier, blocked)


def _measured(to: str, text: str) -> tuple[Msisdn, Segmented]:
    try:
        return parse_msisdn(to), segment(text)
    except InvalidMsisdn as error:
        raise _refused(ProblemCode.INVALID_NUMBER, "to", error) from None
    except TextTooLong as error:
        raise _refused(ProblemCode.TEXT_TOO_LONG, "text", error) from None
    except TextError as error:
        raise _refused(ProblemCode.TEXT_NOT_STORABLE, "text", error) from None


def _refused(code: ProblemCode, field: str, error: Exception) -> Refusal:
    return Refusal(code, reason=str(error), errors=[FieldError(field, str(error))])


def refuse_unsendable(client: Client, sender: str | None) -> None:
    """Refuse a request's sender that no message can carry, unless an operator gave it to the client once.

    Raises:
        Refusal: validation_failed.
    """
    if sender is not None and not is_sender(sender) and not _is_own(client, sender):
        raise invalid_field("from", SENDER_RULE)


def _is_own(client: Client, sender: str) -> bool:
    return sender == client.default_sender or sender in (client.allowed_senders or ())


def _blocked(client: Client, msisdn: Msisdn, sender: str) -> Refusal | None:
    if client.allowed_countries is not None and msisdn.region not in client.allowed_countries:
        return Refusal(ProblemCode.DESTINATION_NOT_ALLOWED, region=msisdn.region)
    allowed = client.allowed_senders
    if allowed is not None and sender not in allowed and sender != client.default_sender:
        return Refusal(ProblemCode.SENDER_NOT_ALLOWED, sender=sender)
    return None


def _price(prices: Prices, client: Client, msisdn: Msisdn, segments: int) -> tuple[int, int]:
    table = prices.table(client)
    try:
        if table is not None:
            priced = table.price(msisdn.e164, segments)
            return priced.amount_micros, priced.rate_version
    except NoRate:
        pass
    raise Refusal(ProblemCode.NO_RATE, to=msisdn.e164[:5] + "…", currency=client.currency)


def _carrier(prices: Prices, msisdn: Msisdn, *, is_test: bool) -> CarrierConfig:
    """The best carrier that is switched on; when all are off, the best one: they may come back in time."""
    carriers = prices.carriers
    usable = _simulators(carriers) if is_test else prices.routes.carriers_for(msisdn.e164)
    if not usable:
        raise Refusal(ProblemCode.NO_ROUTE, region=msisdn.region)
    for id_ in usable:
        if carriers[id_].is_enabled:
            return carriers[id_]
    return carriers[usable[0]]


def _simulators(carriers: dict[int, CarrierConfig]) -> Sequence[int]:
    return [carrier.id for carrier in carriers.values() if carrier.is_simulator and carrier.is_enabled]
