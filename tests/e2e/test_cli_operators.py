"""The commands of operators, and the rest that talk to the API, against a running instance."""

import json
import re
from typing import Any

import pytest
from openapi_spec_validator import validate

from simulator.magic import magic_number
from simulator.outcomes import Outcome
from tests.support.instance import Instance

NUMBER = "+4915112345678"


def tell(running: Instance, *words: str, exit_code: int = 0) -> Any:
    """Run a command for programs; return what it prints."""
    done = running.run(*words, "--json")
    assert done.returncode == exit_code, f"{done.returncode}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout or done.stderr)


def show(running: Instance, *words: str, exit_code: int = 0) -> str:
    """Run a command for people; return both streams."""
    done = running.run(*words)
    seen = done.stdout + done.stderr
    assert done.returncode == exit_code, f"{done.returncode}: {seen}"
    assert "Traceback" not in seen
    return seen


@pytest.fixture(scope="module")
def acme(running: Instance) -> str:
    tell(running, "client", "create", "acme", "--allow-sender", "ACME", "--credit-limit", "5")
    tell(running, "credit", "add", "acme", "100", "--reference", "invoice-1")
    return "acme"


@pytest.fixture(scope="module")
def key(running: Instance, acme: str) -> str:
    return str(tell(running, "key", "create", acme, "--name", "tests")["key"])


def test_a_client_is_made_changed_and_listed(running, acme):
    shown = tell(running, "client", "show", acme)
    assert (shown["allowed_senders"], shown["default_sender"]) == (["ACME"], "ACME")
    assert shown["balance"]["credit_limit"] == "5.0000"
    changed = tell(running, "client", "set", acme, "--messages-per-second", "100", "--allow-country", "DE")
    assert (changed["messages_per_second"], changed["allowed_countries"]) == (100, ["DE"])
    freed = tell(running, "client", "set", acme, "--allow-country", "any", "--messages-per-second", "0")
    assert (freed["messages_per_second"], freed["allowed_countries"]) == (0, None)
    assert [one["name"] for one in tell(running, "client", "list")["clients"]] == ["acme", "demo"]
    assert tell(running, "client", "list", "--limit", "1")["has_more"]
    assert "acme" in show(running, "client", "list")
    assert tell(running, "client", "create", acme, exit_code=1)["code"] == "already_exists"


def test_credit_is_posted_once_for_each_reference_and_shown(running, acme):
    again = tell(running, "credit", "add", acme, "100", "--reference", "invoice-1")
    assert again["replayed"]
    refused = tell(running, "credit", "add", acme, "101", "--reference", "invoice-1", exit_code=1)
    assert refused["code"] == "reference_conflict"
    tell(running, "credit", "adjust", acme, "-1.5", "--reference", "note-1", "--reason", "goodwill")
    shown = tell(running, "credit", "show", acme)
    assert [line["after"]["amount"] for line in shown["posted"]][:2] == ["-1.5000", "100.0000"]
    assert "98.5000 EUR" in show(running, "credit", "show", acme)
    assert "decimal string" in show(running, "credit", "add", acme, "1e3", exit_code=2)


def test_a_client_sends_with_its_own_key_and_sees_what_became_of_it(running, key):
    words = ("send", NUMBER, "Hello", "--api-key", key)
    sent = tell(running, *words, "--from", "ACME", "--client-ref", "a-1", "--wait")
    assert (sent["status"], sent["hold"]["state"], sent["from"]) == ("DELIVERED", "CAPTURED", "ACME")
    screen = show(running, "message", "show", sent["id"], "--api-key", key)
    assert re.search(r"Hold +0\.0750 EUR CAPTURED", screen)
    listed = tell(running, "message", "list", "--client-ref", "a-1", "--api-key", key)
    assert [one["id"] for one in listed["messages"]] == [sent["id"]]
    assert tell(running, "message", "show", sent["id"], exit_code=1)["code"] == "not_found"
    assert tell(running, *words, "--from", "OTHER", exit_code=1)["code"] == "sender_not_allowed"


def test_the_same_idempotency_key_sends_nothing_again(running):
    words = ("send", NUMBER, "Once", "--idempotency-key", "order-1")
    first, again = tell(running, *words), tell(running, *words)
    assert first["id"] == again["id"]
    assert "sent before under this key" in show(running, *words)
    other = tell(running, "send", NUMBER, "Twice", "--idempotency-key", "order-1", exit_code=1)
    assert other["code"] == "idempotency_mismatch"


def test_a_message_that_is_not_delivered_makes_wait_end_with_one(running):
    ended = tell(running, "send", magic_number(Outcome.UNDELIVERABLE), "Hello", "--wait", exit_code=1)
    assert (ended["status"], ended["hold"]["state"]) == ("UNDELIVERED", "RELEASED")


def test_a_test_key_sends_for_nothing_and_a_revoked_one_not_at_all(running, acme):
    made = tell(running, "key", "create", acme, "--test")
    sent = tell(running, "send", NUMBER, "Hello", "--api-key", made["key"], "--wait")
    assert (sent["is_test"], sent["price"]["amount"]) == (True, "0.0000")
    revoked = tell(running, "key", "revoke", made["key_id"])
    assert revoked["revoked_at"]
    listed = {one["key_id"]: one["revoked_at"] for one in tell(running, "key", "list", acme)["keys"]}
    assert listed[made["key_id"]] == revoked["revoked_at"]
    assert "revoked" in show(running, "key", "list", acme)


def test_an_operators_key_needs_no_client_and_may_do_operators_work(running):
    made = tell(running, "key", "create", "--operator", "--name", "second")
    assert (made["client"], made["scopes"]) == (None, ["admin"])
    assert tell(running, "client", "list", "--api-key", made["key"])["clients"]
    assert tell(running, "key", "list", "--operator", "--limit", "1")["has_more"]
    assert "second" in show(running, "key", "list", "--operator")
    assert tell(running, "key", "revoke", made["key_id"], "--reason", "a try")["revoked_at"]


def test_prices_are_set_for_one_listed_and_ended(running, acme, key, tmp_path):
    assert tell(running, "rate", "set", "+4915", "0.0690", "--client", acme) == {"changed": 1}
    assert tell(running, "rate", "set", "4915", "0.0690", "--client", acme) == {"changed": 0}
    prices = tmp_path / "prices.csv"
    prices.write_text("prefix,price\n4916,0.0680\n4915,\n")
    assert tell(running, "rate", "set", "--csv", str(prices), "--client", acme) == {"changed": 2}
    listed = tell(running, "rate", "list", "49", "--client", acme)["rates"]
    assert [(one["prefix"], one["price"]) for one in listed] == [("4916", "0.0680")]
    assert tell(running, "rate", "remove", "4916", "--client", acme) == {"changed": 1}
    everybody = tell(running, "rate", "list", "49")["rates"]
    assert [(one["prefix"], one["price"]) for one in everybody] == [("49", "0.0750")]
    refused = running.run("rate", "set", "x", "1", "--json")
    assert (refused.returncode, "as in 49" in refused.stderr) == (2, True), refused.stderr


def test_a_carrier_is_stopped_started_and_slowed_and_stays_what_it_is_otherwise(running):
    before = tell(running, "carrier", "list")["carriers"][0]
    name = before["name"]
    try:
        stopped = tell(running, "carrier", "stop", name, "--reason", "loses receipts")
        assert stopped == {**before, "enabled": False, "version": stopped["version"]}
        assert "stopped" in show(running, "carrier", "list")
    finally:
        assert tell(running, "carrier", "start", name) == before
    slowed = tell(running, "carrier", "set", name, "--rate-per-second", "50", "--window-max", "20")
    assert slowed == {**before, "rate_per_second": 50, "window_max": 20, "version": slowed["version"]}
    assert len({shown["version"] for shown in (before, stopped, slowed)}) == 3
    was = ("--rate-per-second", str(before["rate_per_second"]), "--window-max", str(before["window_max"]))
    assert tell(running, "carrier", "set", name, *was) == before
    assert tell(running, "carrier", "show", name) == before
    assert "There is no carrier nobody" in show(running, "carrier", "stop", "nobody", exit_code=1)


def test_dead_letters_are_listed_and_replayed_once(running):
    sent = tell(running, "send", magic_number(Outcome.REFUSED), "Hello", "--wait", exit_code=1)
    letters = tell(running, "dlq", "list", "--client", "demo")["dead_letters"]
    letter = next(one for one in letters if one["message_id"] == sent["id"])
    assert letter["replays"] == []
    [made] = tell(running, "dlq", "replay", sent["id"])["replayed"]
    [again] = tell(running, "dlq", "replay", sent["id"])["replayed"]
    assert made["message"]["id"] == again["message"]["id"] != sent["id"]
    assert tell(running, "message", "show", made["message"]["id"])["replay_of"] == sent["id"]
    unknown = "01a1fc6a-9d6b-7485-9fcf-63dce17cfbeb"
    assert "1 refused" in show(running, "dlq", "replay", unknown, exit_code=1)
    assert "None." in show(running, "dlq", "list", "--reason", "nothing_like_it")


def test_the_schema_is_current_and_never_goes_back(running):
    assert "nothing to do" in show(running, "migrate")
    tell(running, "migrate", "--check")
    assert "forward only" in show(running, "migrate", "--to", "0001", exit_code=1)
    nowhere = "postgresql://127.0.0.1:9/nothing"
    assert "does not answer" in show(running, "migrate", "--dsn", nowhere, exit_code=3)


def test_the_description_is_valid_and_needs_nothing_that_runs(running, tmp_path):
    path = tmp_path / "openapi.json"
    assert running.run("openapi", "--output", str(path)).returncode == 0
    document = json.loads(path.read_text())
    validate(document)
    assert document == json.loads(running.run("openapi").stdout)


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (("send",), 2, "Give TO and TEXT"),
        (("send", NUMBER, "x", "--csv", "a.csv"), 2, "not both"),
        (("send", NUMBER, "x", "--run", "a"), 2, "--run is for a file"),
        (("send", "--csv", "a.csv", "--client-ref", "a"), 2, "--client-ref is for a single message"),
        (("client", "set", "demo"), 2, "Nothing to change"),
        (("carrier", "set", "simulator"), 2, "Nothing to change"),
        (("key", "create"), 2, "--operator"),
        (("dlq", "replay"), 2, "--all"),
        (("dlq", "replay", "--all", "--number", "2"), 2, "without --number"),
        (("rate", "set", "49"), 2, "PREFIX and PRICE"),
        (("send", NUMBER, "x", "--api-key", "tw_wrong"), 4, "No valid API key"),
        (("client", "list", "--api-url", "http://127.0.0.1:9"), 3, "Nothing answers"),
        (("client", "list", "--api-url", "nowhere"), 2, "no address"),
        (("client", "show", "nobody"), 1, "no client"),
        (("message", "show", "x"), 2, "not a valid UUID"),
    ],
)
def test_wrong_use_and_refusals_say_what_would_be_right(running, words, exit_code, said):
    assert said in show(running, *words, exit_code=exit_code)


def test_a_clients_key_does_no_operators_work(running, key):
    assert tell(running, "client", "list", "--api-key", key, exit_code=4)["code"] == "forbidden"
