"""Which port each part of an instance gets: the one that is set, the last one, or a free one."""

from collections.abc import Mapping

import click

from embedded.ports import free_port, holder_of, is_allowed, is_free, reserve

DEFAULTS = {"api": 8080}
ANY = 0  # no wish: the port of the last start, else a free one
PORT_LAST = 65_535
# What may be set, by the part that it is for. Health ports are always chosen.
VARIABLES: Mapping[str, str] = {
    "api": "TOLLWIRE_PORT",
    "postgresql": "TOLLWIRE_POSTGRES_PORT",
    "nats": "TOLLWIRE_NATS_PORT",
    "valkey": "TOLLWIRE_VALKEY_PORT",
    "dlr": "TOLLWIRE_RECEIPTS_PORT",
    "simulator": "TOLLWIRE_SIMULATOR_PORT",
}
TITLES = {"api": "the API", "postgresql": "PostgreSQL", "nats": "NATS", "valkey": "Valkey"}


class PortTaken(click.ClickException):
    """A port that was asked for is in use."""

    exit_code = 4

    def __init__(self, part: str, port: int, variable: str) -> None:
        holder = holder_of(port) or "another program"
        other = next((number for number in range(port + 1, PORT_LAST + 1) if is_free(number)), free_port())
        super().__init__(
            f"Port {port} for {TITLES.get(part, part)} is in use by {holder}.\n"
            f"Stop that program, or choose another port: {variable}={other} make up"
        )


class PortForbidden(click.ClickException):
    """A port that this account may not listen at."""

    exit_code = 2

    def __init__(self, part: str, port: int, variable: str) -> None:
        super().__init__(
            f"Port {port} for {TITLES.get(part, part)} is not for this account: ports below 1024 need root. "
            f"Choose another: {variable}={DEFAULTS.get(part) or free_port()} make up"
        )


class PortChoice:
    """Gives each part its port, and the same again at the next start if it is still free.

    Args:
        remembered: the ports of the last start.
        environ: where ports may be set (VARIABLES).
    """

    def __init__(self, remembered: Mapping[str, int], environ: Mapping[str, str]) -> None:
        self._remembered = remembered
        self._environ = environ
        self.chosen: dict[str, int] = {}

    def port_of(self, part: str) -> int:
        """Return the part's port.

        Raises:
            PortTaken: the port that is set for it, or the API's default, is in use.
            PortForbidden: this account may not listen at the port that is set.
            click.BadParameter: what is set is no port.
        """
        if part not in self.chosen:
            self.chosen[part] = self._choose(part)
        return self.chosen[part]

    def _choose(self, part: str) -> int:
        variable = VARIABLES.get(part, "")
        port = _parsed(variable, self._wish(part, variable))
        if port != ANY:
            if not is_allowed(port):
                raise PortForbidden(part, port, variable)
            if not is_free(port):
                raise PortTaken(part, port, variable)
            return port
        remembered = self._remembered.get(part)
        # A wish is for one part, which may be asked for its port after this one.
        others = {*self.chosen.values(), *self._wishes()}
        is_open = remembered is not None and remembered not in others and is_free(remembered)
        # Reserved, since another instance that starts beside this one may have just chosen it.
        if remembered is not None and is_open and reserve(remembered):
            return remembered
        return free_port({*others, *self._remembered.values()})

    def _wish(self, part: str, variable: str) -> str:
        return self._environ.get(variable) or str(DEFAULTS.get(part, ANY))

    def _wishes(self) -> set[int]:
        texts = {self._wish(part, variable) for part, variable in VARIABLES.items()}
        return {int(text) for text in texts if text.isdecimal()}


def _parsed(variable: str, text: str) -> int:
    if not text.isdecimal() or int(text) > PORT_LAST:
        raise click.BadParameter(
            f"{variable}={text!r} is no port: it must be 1 to {PORT_LAST}, or 0 for any."
        )
    return int(text)
