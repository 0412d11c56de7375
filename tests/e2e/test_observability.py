"""What an operator sees of a message, one trace through every process; and what nobody sees: its content.

One instance with a real OTLP receiver beside it. The canaries are planted after the traces were looked at.
"""

import http.client
import json
import shutil
import socket
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import asyncpg
import pytest

from embedded.nats import NatsServer
from embedded.ports import free_port
from embedded.postgres import PostgresServer
from shared.domain.receipt_auth import SIGNATURE_HEADER, sign_receipts
from simulator.magic import magic_number
from simulator.outcomes import Outcome
from tests.support.api_client import Api
from tests.support.callback_sink import CallbackSink, Server
from tests.support.instance import Instance, eventually
from tests.support.otlp import OtlpReceiver, Span
from tests.support.servers import run_apart

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLERS_SPAN = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{CALLERS_SPAN}-01"

TEXT = "Perlmutterkanarie"
NUMBER = "+4915199887766"
REFERENCE = "Referenzkanarie"
CARRIER_PASSWORD = "Carrierkanarie"
URL_TOKEN = "Urlkanarie"
WRONG_KEY = "tw_live_000000000000_Schluesselkanarie0000000000000000000000000"


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as made:
        yield made


@pytest.fixture(scope="module")
def instance(receiver: OtlpReceiver) -> Iterator[Instance]:
    folder = Path(tempfile.mkdtemp(prefix="tollwire-e2e-"))
    folder.chmod(0o755)  # root's PostgreSQL runs as nobody, who must get through
    made = Instance(
        folder / "home",
        free_port(),
        TOLLWIRE_LOG_LEVEL="debug",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20Collectorkanarie",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        OTEL_TRACES_SAMPLER_ARG="0",
        OTEL_BSP_SCHEDULE_DELAY="200",
    )
    made.up()
    yield made
    verified = made.run("ledger", "verify", "--full")
    made.down("--clean")
    shutil.rmtree(folder)
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.fixture(scope="module")
def api(instance: Instance) -> Api:
    status = instance.status()
    return Api(status["api_url"], status["demo_key"])


@pytest.fixture(scope="module")
def sink(api: Api) -> Iterator[CallbackSink]:
    with CallbackSink() as made:
        status, answer = api.ask("PUT", "/v1/callback", {"url": f"{made.url}?token={URL_TOKEN}"})
        assert status in {200, 201}, answer
        made.secret = answer["secret"]
        yield made


def wait_for(receiver: OtlpReceiver, trace_id: str, *names: str) -> dict[str, Span]:
    """The spans of a trace by name, as soon as all of these have come."""
    found = eventually(
        lambda: {span.name: span for span in receiver.of_trace(trace_id)},
        lambda seen: set(names) <= set(seen),
    )
    return dict(found)


def test_a_message_is_one_trace_from_its_request_to_the_carrier(api, sink, receiver):
    to = magic_number(Outcome.DELIVERED)
    status, sent = api.ask("POST", "/v1/messages", {"to": to, "text": "Hello"}, traceparent=TRACEPARENT)
    assert status == 202
    own_trace = sent["id"].replace("-", "")
    way = ("POST /v1/messages", "send sms.send.normal", "process sms.send.normal", "submit simulator")
    flushes = ("flush accept", "flush claim", "flush record")
    spans = wait_for(receiver, TRACE_ID, *way, *flushes)
    request, send, process, submit = (spans[name] for name in way)

    assert [span.service for span in (request, send, process, submit)] == [
        "tollwire-api", "tollwire-api", "tollwire-worker", "tollwire-worker",
    ]  # fmt: skip
    assert [span.kind for span in (request, send, process, submit)] == [
        "server",
        "producer",
        "consumer",
        "client",
    ]
    parents = [span.parent_id for span in (request, send, process, submit)]
    assert parents == [CALLERS_SPAN, request.span_id, send.span_id, process.span_id]
    assert {span.attributes["messaging.message.id"] for span in (send, process, submit)} == {own_trace}
    assert submit.attributes["tollwire.outcome"] == "submitted"
    below = {"flush accept": request, "flush claim": process, "flush record": process}
    for name, parent in below.items():
        assert (spans[name].parent_id, spans[name].links) == (parent.span_id, ((TRACE_ID, parent.span_id),))

    # What comes later stands in the message's own trace, linked to the request that sent it.
    later = wait_for(receiver, own_trace, "settle receipt", "POST callback")
    for span in later.values():
        assert (span.service, span.links) == ("tollwire-dlr", ((TRACE_ID, request.span_id),))
    assert later["settle receipt"].attributes["tollwire.state"] == "DELIVERED"
    assert later["POST callback"].attributes["http.response.status_code"] == 204
    assert {headers["authorization"] for headers in receiver.headers} == {"Bearer Collectorkanarie"}


def test_a_scheduled_message_goes_on_in_its_trace(api, receiver, sink):
    trace_id = TRACE_ID[::-1]
    soon = api.ask("GET", "/v1/balance")[1]["as_of"]
    body = {"to": magic_number(Outcome.DELIVERED), "text": "Hello", "send_at": soon}
    status, sent = api.ask("POST", "/v1/messages", body, traceparent=f"00-{trace_id}-{CALLERS_SPAN}-01")
    assert status == 202, sent
    wait_for(receiver, trace_id, "POST /v1/messages", "process sms.send.normal", "submit simulator")


def test_without_a_sampled_caller_only_what_fails_is_told(api, receiver, sink):
    delivered = api.send(magic_number(Outcome.DELIVERED))["id"].replace("-", "")
    refused = api.send(magic_number(Outcome.REFUSED))["id"].replace("-", "")
    submit = wait_for(receiver, refused, "submit simulator")["submit simulator"]
    assert (submit.is_error, submit.attributes["tollwire.outcome"]) == (True, "refused")
    # The one that was fine has come to its end too, and nobody heard of it.
    eventually(lambda: sink.told.get(str_id(delivered)), bool)
    assert receiver.of_trace(delivered) == []


def str_id(hex_id: str) -> str:
    return f"{hex_id[:8]}-{hex_id[8:12]}-{hex_id[12:16]}-{hex_id[16:20]}-{hex_id[20:]}"


class Echo:
    """A carrier and an endpoint at once: refuses everything, and says back all that it was told."""

    def __init__(self) -> None:
        self.asked = 0
        self._server = Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def _handler(echo) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the handler's own self is inside
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                said = self.rfile.read(int(self.headers["Content-Length"])).decode()
                heard = f"{said} {dict(self.headers.items())}"
                body = json.dumps({"error": {"code": heard, "text": heard}}).encode()
                self.send_response(500 if "webhook-id" in self.headers else 400)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                echo.asked += 1

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def plant_everywhere(instance: Instance, api: Api, echo: Echo) -> None:
    """Send canaries on every way that Tollwire has for them: the good ones, and those that fail."""
    status = instance.status()
    admin = Api(status["api_url"], (instance.home / "admin.key").read_text().strip())
    settings = {
        "url": echo.url,
        "headers": {"Authorization": "Bearer $secret"},
        "body": {"to": "$msisdn", "text": "$text", "id": "$message_id"},
        "reference": "reference",
        "error_code": "error.code",
        "error_text": "error.text",
    }
    done = [
        admin.ask("PUT", "/admin/v1/carriers/echo", {"settings": settings, "secret": CARRIER_PASSWORD})[0],
        admin.ask("PUT", "/admin/v1/routes", {"prefix": NUMBER[1:8], "carrier": "echo"})[0],
        # The endpoint repeats what it hears, and its answers are kept.
        api.ask("PUT", "/v1/callback", {"url": f"{echo.url}?token={URL_TOKEN}", "keep_answers": True})[0],
    ]
    assert set(done) <= {200, 201}, done
    eventually(lambda: sent_to_echo(api, echo), bool)
    refused_requests(status["api_url"], api)
    refused_receipts(instance)
    run_apart(lambda: fail_in_the_database(instance, api))


def sent_to_echo(api: Api, echo: Echo) -> bool:
    """True when the route leads to the echo, which is so within a second."""
    body = {"to": NUMBER, "text": TEXT, "client_ref": REFERENCE}
    sent = api.ask("POST", "/v1/messages", body, traceparent=TRACEPARENT)[1]
    is_final = {"FAILED_PERM", "DELIVERED"}.__contains__
    message = eventually(lambda: api.message(sent["id"]), lambda seen: is_final(seen["status"]))
    return bool(message["status"] == "FAILED_PERM" and echo.asked >= 2)


def refused_requests(url: str, api: Api) -> None:
    """Requests that never become a message, with all that must not be repeated in them."""
    netloc = urlsplit(url).netloc
    bodies: list[object] = [
        {"to": NUMBER + "00000", "text": TEXT},
        {"to": NUMBER, "text": TEXT, TEXT: NUMBER},
        {"to": NUMBER, "text": TEXT, "lane": TEXT},
        {"to": NUMBER, "text": TEXT * 1000},
        {"to": NUMBER, "text": TEXT, "client_ref": REFERENCE + "\0"},
    ]
    assert {api.ask("POST", "/v1/messages", body)[0] for body in bodies} <= {400, 413, 422}
    assert Api(url, WRONG_KEY).ask("POST", "/v1/messages", bodies[0])[0] == 401
    nearly = api._key[:-1] + ("1" if api._key.endswith("0") else "0")
    assert Api(url, nearly).ask("GET", "/v1/balance")[0] == 401
    assert api.ask("GET", f"/v1/messages/{NUMBER}?text={TEXT}")[0] in {404, 422}
    broken = http.client.HTTPConnection(netloc, timeout=30.0)
    broken.request("POST", "/v1/messages", f'{{"to": "{NUMBER}", "text": "{TEXT}', {"X-API-Key": api._key})
    assert broken.getresponse().status == 400
    broken.close()
    host, _, port = netloc.partition(":")
    with socket.create_connection((host, int(port)), timeout=30.0) as line:
        line.sendall(f"POST {NUMBER} {TEXT}\r\nX-API-Key: {api._key}\r\n{TEXT}\r\n\r\n".encode())
        assert line.recv(100).startswith(b"HTTP/1")


def refused_receipts(instance: Instance) -> None:
    """Receipts of nobody, of a stranger, and malformed ones of the carrier."""
    port = json.loads((instance.home / "ports.json").read_text())["dlr"]
    secret = (instance.home / "simulator.secret").read_text().strip()
    body = json.dumps(
        {"receipts": [{"to": NUMBER, "state": [TEXT], "reference": TEXT, "done_at": TEXT}]}
    ).encode()
    signature = sign_receipts(secret, body, int(time.time()))
    for carrier, header in (("nobody", ""), ("simulator", "rubbish"), ("simulator", signature)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30.0)
        connection.request(
            "POST",
            f"/receipts/{carrier}",
            body,
            {SIGNATURE_HEADER: header, "Content-Type": "application/json"},
        )
        assert connection.getresponse().status in {401, 404, 422}
        connection.close()


async def fail_in_the_database(instance: Instance, api: Api) -> None:
    """PostgreSQL refuses a row, and says the whole of it in the error's detail."""
    port = json.loads((instance.home / "ports.json").read_text())["postgresql"]
    owner = await asyncpg.connect(
        PostgresServer(instance.home / "postgresql", port=port).dsn(database="tollwire")
    )
    await owner.execute("alter table tollwire.messages add constraint canary check (client_ref <> 'bad')")
    try:
        body = {"to": NUMBER, "text": TEXT, "client_ref": "bad"}
        status, _ = api.ask("POST", "/v1/messages", body)
        assert status == 500
    finally:
        await owner.execute("alter table tollwire.messages drop constraint canary")
        await owner.close()


def secrets_of(instance: Instance, api: Api, callback_secret: str) -> dict[str, str]:
    """All that must never be shown, by what it is."""
    home = instance.home
    ports = json.loads((home / "ports.json").read_text())
    keys = json.loads((home / "keyring.json").read_text())["keys"]
    files = {path.name: path.read_text().strip() for path in home.glob("**/*.secret")}
    return {
        "text": TEXT,
        "number": NUMBER[1:],
        "API key": api._key.rpartition("_")[2],
        "wrong API key": WRONG_KEY.rpartition("_")[2],
        "admin key": (home / "admin.key").read_text().strip().rpartition("_")[2],
        "callback secret": callback_secret.removeprefix("whsec_"),
        "carrier's password": CARRIER_PASSWORD,
        "token in a URL": URL_TOKEN,
        "NATS token": NatsServer(home / "nats", port=ports["nats"], monitor_port=1).token,
        "collector's token": "Collectorkanarie",
        **{f"key {name}": key for name, key in keys.items()},
        **files,
    }


def places(instance: Instance, receiver: OtlpReceiver) -> dict[str, bytes]:
    """Everything that is written for operators, by where it is; and what lies in JetStream."""
    found = {str(path.name): path.read_bytes() for path in instance.home.glob("logs/*")}
    found |= {
        f"nats {path.name}": path.read_bytes() for path in instance.home.glob("nats/jetstream/**/*.blk")
    }
    found["traces"] = b"\n".join(receiver.bodies)
    for process in instance.status()["processes"]:
        if process["health_port"]:
            url = f"http://127.0.0.1:{process['health_port']}/metrics"
            with urllib.request.urlopen(url, timeout=30.0) as answer:
                found[f"metrics of {process['name']}"] = answer.read()
    return found


def test_no_content_and_no_secret_is_ever_written(instance, api, sink, receiver):
    echo = Echo()
    errors_before = len([span for span in receiver.spans if span.is_error])
    try:
        plant_everywhere(instance, api, echo)
    finally:
        echo.close()
    # What failed was told: without that the search below would prove nothing.
    eventually(
        lambda: [span for span in receiver.spans if span.is_error], lambda seen: len(seen) > errors_before + 2
    )
    written = places(instance, receiver)
    told = b"".join(written.values())
    for sign in (b"receipt refused", b"request failed", b"violates check constraint", b'"carrier":"echo"'):
        assert sign in told, sign
    leaks = [
        (what, where, line[:300])
        for what, secret in secrets_of(instance, api, sink.secret).items()
        for where, text in written.items()
        for line in text.split(b"\n")
        if secret.encode() in line
    ]
    assert leaks == []


def test_every_line_of_a_service_is_json_with_its_ids(instance):
    for name in ("api", "worker", "dlr", "ledger", "simulator"):
        lines = [
            json.loads(line) for line in (instance.home / "logs" / f"{name}.log").read_text().splitlines()
        ]
        assert lines, name
        for line in lines:
            assert {"ts", "level", "event", "service"} <= set(line), line
