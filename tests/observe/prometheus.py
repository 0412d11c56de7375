"""Questions to a Prometheus over its HTTP API."""

import http.client
import json
import math
from typing import Any
from urllib.parse import urlencode

ANSWER_SECONDS = 30.0
STEP_SECONDS = 5


class Prometheus:
    """One server on this machine."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, path: str, **parameters: object) -> Any:
        """Return the data of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", f"/api/v1/{path}?{urlencode(parameters)}")
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert answer["status"] == "success", f"{path} {parameters}: {answer}"
        return answer["data"]

    def points(self, expr: str, start: float, end: float) -> int:
        """How many numbers an expression has between two times, all its lines together."""
        found = self.ask("query_range", query=expr, start=start, end=end, step=STEP_SECONDS)
        values = [float(value) for line in found["result"] for _, value in line["values"]]
        return sum(math.isfinite(value) for value in values)

    def total(self, metric: str) -> float:
        """The sum of a metric now; 0 while there is none."""
        found = self.ask("query", query=f"sum({metric})")["result"]
        return float(found[0]["value"][1]) if found else 0.0

    def firing(self) -> dict[str, str]:
        """The alerts that fire, with their severity."""
        return {
            alert["labels"]["alertname"]: alert["labels"]["severity"]
            for alert in self.ask("alerts")["alerts"]
            if alert["state"] == "firing"
        }
