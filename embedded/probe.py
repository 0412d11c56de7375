"""One question to a process of ours over HTTP."""

import http.client
import json
import socket

from embedded.ports import LOOPBACK

ANSWER_SECONDS = 1.0  # a process that is well answers in milliseconds
BODY_BYTES_MAX = 65_536


def get(port: int, path: str, address: str = LOOPBACK) -> tuple[int, bytes] | None:
    """Return status and body, or None when nothing answers.

    Not urllib: that would ask the proxy that the environment names.
    """
    connection = http.client.HTTPConnection(address, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(BODY_BYTES_MAX)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def answers(port: int, words: bytes) -> bool:
    """True when a server says anything to these words; the kernel takes connections for a frozen one too."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=ANSWER_SECONDS) as connection:
            connection.sendall(words)
            return bool(connection.recv(1))
    except OSError:
        return False


def is_ok(port: int, path: str, address: str = LOOPBACK) -> bool:
    """True when the answer is 200."""
    answer = get(port, path, address)
    return answer is not None and answer[0] == http.HTTPStatus.OK


def get_json(port: int, path: str) -> object:
    """Return the decoded body whatever the status, or None when there is none to decode."""
    answer = get(port, path)
    try:
        return None if answer is None else json.loads(answer[1])
    except ValueError:
        return None
