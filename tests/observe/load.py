"""Traffic of every kind for an instance, so that every line of a dashboard has something to draw."""

import http.client
import json
import threading
from typing import Self
from urllib.parse import urlsplit

# Ordinary numbers, and some of the simulator's: undelivered, expired, refused for good, once in vain, slow.
# None that answers "too fast": the carrier would be slowed down for all.
NUMBERS = [f"+4915112{index:06d}" for index in range(40)]
NUMBERS += ["+12025550101", "+12025550102", "+12025550110", "+12025550121", "+12025550141"]
LANES = ("express", "normal", "bulk")
PAUSE_SECONDS = 1.0
ANSWER_SECONDS = 60.0
NO_ANSWER = 0


class Load:
    """Sends about fifty messages a second until it is left."""

    def __init__(self, url: str, key: str) -> None:
        self._place = urlsplit(url).netloc
        self._headers = {"X-API-Key": key, "Content-Type": "application/json"}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.accepted = 0

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> int:
        """Do one request; return its status, or 0 when there was no answer in time."""
        connection = http.client.HTTPConnection(self._place, timeout=ANSWER_SECONDS)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {**self._headers, **headers})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return NO_ANSWER
        finally:
            connection.close()

    def _run(self) -> None:
        turn = 0
        while not self._stop.wait(PAUSE_SECONDS):
            turn += 1
            self._send(turn)
            self.ask("GET", "/v1/balance")
            self.ask("POST", "/v1/messages", {"to": "nobody", "text": "x"})
            self.ask("GET", "/v1/balance", **{"X-API-Key": f"tw_wrong{turn:04d}_x"})

    def _send(self, turn: int) -> None:
        lane = LANES[turn % len(LANES)]
        body = {"messages": [{"to": number, "text": f"turn {turn}", "lane": lane} for number in NUMBERS]}
        for _ in range(2):  # the second is answered with the first one's answer
            self.ask("POST", "/v1/messages/batch", body, **{"Idempotency-Key": f"turn-{turn}"})
        for number in NUMBERS[:4]:
            status = self.ask("POST", "/v1/messages", {"to": number, "text": f"Grüße {turn} ☺", "lane": lane})
            self.accepted += status == http.client.ACCEPTED

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(ANSWER_SECONDS)
