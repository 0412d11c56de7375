"""Why there is no connection, in words: what the network says is a number and a tuple."""

import os
import socket
import ssl


def network_trouble(error: BaseException) -> tuple[str, str]:
    """Say in words why there is no connection, and what to do if that is plain from the error."""
    match error:
        case TimeoutError():
            return (
                "does not answer in time",
                "Is it overloaded or frozen, or is a firewall or a network policy between?",
            )
        case ConnectionRefusedError():
            return "refuses connections: nothing listens there", ""
        case ssl.SSLError():
            return (
                f"fails at TLS: {error.reason or error}",
                "Check its certificate, and the CA that is trusted.",
            )
        case OSError():
            return f"cannot be reached: {_reason(error)}", ""
        case _:
            return f"cannot be used: {type(error).__name__}: {error}", ""


def _reason(error: OSError) -> str:
    """What the system says, without the address that asyncio writes in its place."""
    if error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or str(error) or "the connection broke off"
    return os.strerror(error.errno)
