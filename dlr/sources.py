"""The carriers that may send receipts, as their rows say."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import structlog

from shared.domain.receipt_auth import ReceiptAuth
from shared.domain.receipts import ReceiptReader, read_receipt_settings
from shared.runtime.keyring import Keyring
from shared.storage.config import CarrierConfig, carrier_aad

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """A carrier that may send receipts."""

    id: int
    name: str
    auth: ReceiptAuth
    reader: ReceiptReader
    secret: bytes | None


def read_sources(
    carriers: Iterable[CarrierConfig], keyring: Keyring, last: Iterable[Source]
) -> Mapping[str, Source]:
    """Return the sources by name, switched off or not; a row that cannot be read leaves its ``last`` one."""
    sources = {}
    last_good = {source.id: source for source in last}
    for config in carriers:
        try:
            settings = read_receipt_settings(config.settings)
            secret = None
            if config.secret_sealed is not None:
                secret = keyring.unseal(config.secret_sealed, carrier_aad(config.id))
        except ValueError as error:
            _log.error("receipts of this carrier cannot be read", carrier=config.name, error=str(error))
            if config.id in last_good:
                sources[config.name] = last_good[config.id]
            continue
        if settings is not None:
            sources[config.name] = Source(
                config.id, config.name, settings.auth, ReceiptReader(settings), secret
            )
    return sources
