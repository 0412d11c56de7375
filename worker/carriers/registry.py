"""Which kinds of carriers there are. A new kind is a new line here and a rig for the conformance suite."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from worker.carriers.base import Carrier
from worker.carriers.http import HttpCarrier

MakeCarrier = Callable[[str, Mapping[str, object], bytes | None], Carrier]

KINDS: Mapping[str, MakeCarrier] = MappingProxyType({"http": HttpCarrier.from_settings})


class CarrierSettingsFault(ValueError):  # noqa: N818 - named for what it is
    """A carrier's row cannot work as it is written; the text names the carrier and the setting."""


def make_carrier(kind: str, name: str, settings: Mapping[str, object], secret: bytes | None) -> Carrier:
    """Return the carrier of a row, not yet entered; `secret` is what its sealed secret opened to.

    Raises:
        CarrierSettingsFault: there is no such kind, or the settings are wrong.
    """
    make = KINDS.get(kind)
    if make is None:
        raise CarrierSettingsFault(f"carrier {name}: there is no kind {kind!r}; there is {', '.join(KINDS)}")
    try:
        return make(name, settings, secret)
    except ValueError as error:
        raise CarrierSettingsFault(f"carrier {name}: {error}") from error
