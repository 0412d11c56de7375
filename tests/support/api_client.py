"""Asks a running API as a client's program would, over one kept connection."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit


class Api:
    """One API key of one API."""

    def __init__(self, url: str, key: str) -> None:
        self._netloc = urlsplit(url).netloc
        self._key = key

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Return the status and the decoded body."""
        connection = http.client.HTTPConnection(self._netloc, timeout=30.0)
        try:
            sent = {"X-API-Key": self._key, "Content-Type": "application/json"}
            sent |= {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def send(self, to: str, text: str = "Hello", **fields: object) -> Any:
        """Send one message; return the 202's body."""
        status, answer = self.ask("POST", "/v1/messages", {"to": to, "text": text, **fields})
        assert status == 202, answer
        return answer

    def message(self, message_id: str) -> Any:
        """Return a message as GET shows it."""
        status, answer = self.ask("GET", f"/v1/messages/{message_id}")
        assert status == 200, answer
        return answer
