"""An address that cannot be listened on is told by the settings that name it."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from shared.runtime.settings import PREFIX


@contextmanager
def told_by_settings(name: str, host: str, port: int) -> Iterator[None]:
    """Name ``TOLLWIRE_<name>HOST`` and ``TOLLWIRE_<name>PORT`` when what is begun within cannot listen.

    Raises:
        OSError: with the same number; the port is taken, or the host is not of this machine.
    """
    try:
        yield
    except OSError as error:
        # asyncio's own sentence quotes the address, and what is quoted is not written to a log.
        is_of_name = isinstance(error, socket.gaierror) or error.errno is None
        why = (error.strerror or str(error)) if is_of_name else os.strerror(error.errno or 0)
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        text = f"nothing can listen on {place}: {why}; {PREFIX}{name}HOST and {PREFIX}{name}PORT name it"
        raise OSError(error.errno, text) from None
