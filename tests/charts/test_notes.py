"""The notes after an installation say how to go on, and what is missing for production."""

import pytest

from tests.charts.rendering import HELM4, NAMESPACE, RELEASE, VALUE_SETS, helm
from tests.charts.values_schema import CHART


def notes(name: str, *settings: str) -> str:
    values = [word for file in VALUE_SETS[name] for word in ("--values", str(CHART / file))]
    more = [word for one in ("crdCheck=false", *settings) for word in ("--set", one)]
    where = ("--namespace", NAMESPACE, "--dry-run=client", "--kubeconfig", "/nowhere")
    done = helm(HELM4, "install", RELEASE, str(CHART), *where, *values, *more)
    assert done.status == 0, done.errors
    return done.output.partition("\nNOTES:\n")[2]


def test_a_bare_installation_is_told_all_that_it_lacks() -> None:
    told = notes("minimal")
    for missing in (
        "a way in for clients", "carriers' receipts", "verify-full", "synchronous_standby_names",
        "credentials for NATS", "Valkey", "bootstrap.operatorKeySecret", "nobody is woken", "image.tag",
    ):  # fmt: skip
        assert missing in told
    assert "port-forward service/tollwire-api 8080:80" in told


def test_an_installation_that_has_everything_is_told_what_only_its_operator_knows() -> None:
    told = notes("full")
    assert "https://api.example.com/docs" in told
    assert [line.strip()[:32] for line in told.partition("Missing")[2].splitlines()[1:]] == [
        "- to be checked by you: synchron",
        "- to be checked by you: max_conn",
        "- the simulator is on: it takes ",
    ]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("networkPolicy.enabled=false", "reaches everything"),
        ("ledger.persistence.enabled=false", "nothing is archived"),
        ("dlr.callbacks.allowPrivate=true", "reaches your own network"),
        ("api.trustedProxies=null", "limits and address lists see the proxy"),
        ("ingress.tls=null", "TLS for clients"),
        ("nats.replicas=1", "on a cluster of three"),
    ],
)
def test_what_an_operator_switches_off_is_told(setting: str, told: str) -> None:
    assert told in notes("full", setting)
