"""Whether a carrier's row can work: asked before it is stored, so that a slip of the pen stops no carrier."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

import msgspec

from shared.domain.body_template import compile_template
from shared.domain.carrier_headers import fill_headers
from shared.domain.carrier_secrets import RECEIPTS_SECRET, named_secret
from shared.domain.http_settings import HttpSettings
from shared.domain.receipt_auth import AddressAuth

# What `settings` is read as, by the carrier's kind.
SETTINGS: Mapping[str, type[HttpSettings]] = MappingProxyType({"http": HttpSettings})


def read_carrier_settings(kind: str, settings: Mapping[str, object]) -> HttpSettings:
    """Read the settings of a carrier of one of the kinds in SETTINGS, strictly.

    Raises:
        msgspec.ValidationError: they are wrong; the text names the field.
    """
    return msgspec.convert(settings, SETTINGS[kind])


def check_carrier_secret(settings: HttpSettings, secret: bytes | None) -> None:
    """Return when the secret has all that the settings ask for; it is what a sealed secret opens to.

    Raises:
        CarrierSecretMissing: a header, the body or the receipts ask for one that there is not.
        ValueError: a header is none that HTTP can carry.
    """
    fill_headers(settings.headers, secret)
    compile_template(settings.body, partial(named_secret, secret))
    if settings.receipts is not None and not isinstance(settings.receipts.auth, AddressAuth):
        named_secret(secret, RECEIPTS_SECRET)
