"""A client's endpoint: verifies every callback with the official package and keeps what it was told."""

import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks.webhooks import Webhook


class Server(ThreadingHTTPServer):
    """The library's backlog of 5 drops connections when a batch is told at once."""

    request_queue_size = 256
    daemon_threads = True


class CallbackSink:
    """``told``: the data of each callback by message id, once a webhook-id. ``bad``: what did not verify."""

    def __init__(self) -> None:
        self.secret = ""
        self.told: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.bad: list[str] = []
        self._seen: set[str] = set()
        self._server = Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/callbacks"

    def _handler(sink) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the handler's own self is inside
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.take(body, dict(self.headers.items()))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def take(self, body: bytes, headers: dict[str, str]) -> None:
        try:
            Webhook(self.secret).verify(body, headers)
        except Exception as error:  # noqa: BLE001 - the test asserts that there is none
            self.bad.append(f"{type(error).__name__}: {error}")
            return
        webhook_id = headers.get("webhook-id", "")
        if webhook_id not in self._seen:
            self._seen.add(webhook_id)
            event = json.loads(body)
            self.told[event["data"]["id"]].append({"type": event["type"], **event["data"]})

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
