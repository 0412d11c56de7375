"""What the chart and compose tell a process is what the process reads, in a form that it takes."""

import pytest

from cli.env_example import KINDS
from shared.runtime.settings import describe, load
from tests.charts.rendering import VALUE_SETS, environment, of_kind, pod_of, rendered
from tests.support.certificates import Authority
from tests.support.nats_access import credentials

# Asked for by hand, not by a settings type.
BY_COMMANDS = {"TOLLWIRE_MIGRATE_DSN", "TOLLWIRE_SIMULATOR_SECRET"}
COMPONENTS = ("api", "worker", "dlr", "ledger", "simulator")


def kinds_of(component: str) -> list[type]:
    """The settings types that a process reads."""
    return [kind for name, kind in KINDS.items() if name.partition(" ")[0] == f"tollwire-{component}"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A real file for what each name in a pod's /etc/tollwire holds."""
    folder = tmp_path_factory.mktemp("files")
    authority = Authority(folder)
    cert, key = authority.issue("tollwire")
    _, creds = credentials(folder)
    return {
        "ca.crt": str(authority.ca_file),
        "tls.crt": str(cert),
        "tls.key": str(key),
        "credentials": str(creds),
        "keyring.json": str(folder / "keyring.json"),
    }


@pytest.mark.parametrize("name", VALUE_SETS)
def test_every_process_can_read_what_the_chart_tells_it(name: str, files: dict[str, str]) -> None:
    for deployment in of_kind(rendered(name), "Deployment"):
        told = environment(pod_of(deployment))
        component = deployment["metadata"]["labels"]["app.kubernetes.io/component"]
        known = {setting.variable for kind in kinds_of(component) for setting in describe(kind)}
        ours = {variable for variable in told if variable.startswith("TOLLWIRE_")}
        assert ours <= known, (deployment["metadata"]["name"], ours - known)
        # What comes from a Secret has some value here.
        filled = {variable: value or "from-a-secret" for variable, value in told.items()}
        for variable, value in filled.items():
            if value.startswith("/etc/tollwire/"):
                filled[variable] = files[value.rpartition("/")[2]]
        for kind in kinds_of(component):
            load(kind, filled)


@pytest.mark.parametrize("name", VALUE_SETS)
def test_jobs_are_told_what_their_commands_read(name: str) -> None:
    known = {setting.variable for kind in KINDS.values() for setting in describe(kind)} | BY_COMMANDS
    for job in of_kind(rendered(name), "Job"):
        ours = {variable for variable in environment(pod_of(job)) if variable.startswith("TOLLWIRE_")}
        assert ours <= known


def test_every_file_that_a_process_is_told_of_is_mounted() -> None:
    for found in of_kind(rendered("full"), "Deployment", "Job"):
        container = pod_of(found)["containers"][0]
        folders = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod_of(found)["volumes"]}
        named = [
            word
            for word in [*container["command"], *environment(pod_of(found)).values()]
            if word is not None and word.startswith("/etc/tollwire/")
        ]
        assert named or found["metadata"]["name"] == "sms-simulator"
        for path in named:
            folder, _, file = path.rpartition("/")
            items = volumes[folders[folder]]["secret"]["items"]
            assert file in [item["path"] for item in items], path
