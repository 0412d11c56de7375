"""What is refused of a carrier before it is stored: its row is in force everywhere within a second."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from api.carrier_schemas import CarrierRequest
from api.problems import invalid_field
from api.violations import refuse_values
from shared.domain.carrier_secrets import CarrierSecretMissing
from shared.domain.carrier_settings import SETTINGS, check_carrier_secret, read_carrier_settings
from shared.domain.http_settings import HttpSettings
from shared.runtime.keyring import Keyring, SealBroken
from shared.storage.carriers import StoredCarrier, carrier_secret_aad

# Columns that nothing reads yet. To take them would promise what does not happen.
WITHOUT_EFFECT: Final = ("can_query", "splits_parts")


def refuse_unusable(body: CarrierRequest, stored: StoredCarrier | None, keyring: Keyring) -> None:
    """Return when every process could open this carrier.

    What is stored already may be stored again: to stop a carrier never fails for its settings.

    Raises:
        Refusal: validation_failed, with each field.
    """
    row = None if stored is None else stored.row
    for field in WITHOUT_EFFECT:
        if getattr(body, field) and not getattr(row, field, False):
            raise invalid_field(field, "must be false: it has no effect yet")
    is_as_stored = row is not None and (row.kind, row.settings) == (body.kind, body.settings)
    if is_as_stored and body.secret is None:
        return
    settings = _read(body.kind, body.settings)
    try:
        check_carrier_secret(settings, _secret(body, stored, keyring))
    except (CarrierSecretMissing, SealBroken) as error:
        raise invalid_field("secret", str(error)) from None
    except ValueError as error:
        raise invalid_field("settings", str(error)) from None


def _read(kind: str, settings: Mapping[str, Any]) -> HttpSettings:
    try:
        return read_carrier_settings(kind, settings)
    except msgspec.ValidationError as error:
        raise refuse_values(error, settings, SETTINGS[kind], where="settings") from None


def _secret(body: CarrierRequest, stored: StoredCarrier | None, keyring: Keyring) -> bytes | None:
    """The secret that the carrier will have."""
    if body.secret is not None:
        return body.secret.encode()
    if stored is None or stored.secret_sealed is None:
        return None
    return keyring.unseal(stored.secret_sealed, carrier_secret_aad(stored.id))
