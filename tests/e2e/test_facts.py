"""Every change of a message's state is told on ``sms.event.<status>`` (RULES 35)."""

import json
from datetime import datetime, timedelta
from pathlib import Path

from embedded.nats import NatsServer
from shared.events.facts import Fact
from simulator.magic import magic_number
from simulator.outcomes import Outcome
from tests.support.api_client import Api
from tests.support.instance import Instance, eventually
from tests.support.servers import run_apart
from tests.support.stored_facts import stored_facts


async def facts_of(home: Path) -> list[Fact]:
    server = NatsServer(home / "nats", port=json.loads((home / "ports.json").read_text())["nats"])
    return await stored_facts(server.url, server.token)


def told(running: Instance, message_id: str) -> list[str]:
    facts = run_apart(lambda: facts_of(running.home))
    mine = [fact for fact in facts if fact.message_id == message_id.replace("-", "")]
    return [fact.status for fact in sorted(mine, key=lambda fact: fact.at)]


def test_each_state_of_a_message_is_told(running):
    status = running.status()
    api = Api(status["api_url"], status["demo_key"])
    sent = api.send(magic_number(Outcome.DELIVERED))["id"]
    eventually(lambda: told(running, sent), lambda seen: seen == ["QUEUED", "SENDING", "SENT", "DELIVERED"])


def test_a_cancelled_message_is_told(running):
    status = running.status()
    api = Api(status["api_url"], status["demo_key"])
    now = datetime.fromisoformat(api.ask("GET", "/v1/balance")[1]["as_of"])
    tomorrow = (now + timedelta(days=1)).isoformat()
    waiting = api.send(magic_number(Outcome.DELIVERED), send_at=tomorrow)["id"]
    code, answer = api.ask("DELETE", f"/v1/messages/{waiting}")
    assert (code, answer["status"]) == (200, "CANCELLED")
    eventually(lambda: told(running, waiting), lambda seen: seen == ["SCHEDULED", "CANCELLED"])
