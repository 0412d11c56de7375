"""docs/kubernetes.md, run word for word: real Helm and kubectl against a server of ours.

What would fetch something is marked in the document and not run. What runs in a pod is checked for its
form: the command must be one of ours, with its options.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.architecture.test_docs import faults_of
from tests.charts.kube.server import FakeCluster
from tests.charts.tools import HELMS, KUBECTL, Tool

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = ROOT / "docs" / "kubernetes.md"
BLOCK: Final = re.compile(r"(<!-- online -->\n)?^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
ONLINE_WORDS: Final = ("helm repo", "cnpg/", "nats/nats", "docker build", "docker push")
RUN_SECONDS: Final = 280

# In a pod: noted; what prints something prints something like it, what is to fail does.
# The rest is kubectl's own.
IN_A_POD: Final = """#!/bin/sh
for word in "$@"; do case $word in
  exec) printf '%s\\n' "$*" >> @SEEN@; case "$*" in
    *"${FAILING:-nothing of all}"*) exit 1;;
    *--json) echo '{"key": "tw_id_secret"}';;
  esac; exit 0;;
  port-forward) exec /bin/sleep 30 > /dev/null 2>&1;;
esac; done
exec @REAL@ "$@"
"""
# In a container of our image: the same commands here.
IN_A_CONTAINER: Final = """#!/bin/sh
[ "$1 $2" = "run --rm" ] || { echo "docker $*" >&2; exit 1; }
shift 2; [ "$1" != -i ] || shift
shift; exec "$@"
"""
NOTHING: Final = "#!/bin/sh\n"


def blocks() -> list[tuple[bool, str]]:
    """Each block of commands, and whether it is marked as one that needs the Internet."""
    return [(bool(mark), block) for mark, block in BLOCK.findall(DOCUMENT.read_text(encoding="utf-8"))]


def programs(folder: Path, helm: Tool, seen: Path) -> None:
    """What the document's commands find on their path."""
    kubectl = IN_A_POD.replace("@SEEN@", str(seen)).replace("@REAL@", str(KUBECTL.program))
    found = {"kubectl": kubectl, "docker": IN_A_CONTAINER, "curl": NOTHING, "sleep": NOTHING}
    folder.mkdir()
    for name, text in found.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    (folder / "helm").symlink_to(helm.program)


def typed(script: str, cluster: FakeCluster, folder: Path, *, flags: str, failing: str = "") -> Any:
    """Type commands in the clone, with the programs of the folder; what became of them."""
    path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.defpath}"
    environ = {"PATH": path, "HOME": str(folder), "TMPDIR": str(folder), "FAILING": failing}
    environ["KUBECONFIG"] = str(cluster.kubeconfig(folder))
    work = folder / "clone"
    if not work.exists():
        work.mkdir()
        for name in ("charts", "docs"):
            (work / name).symlink_to(ROOT / name)
    return subprocess.run(
        ["bash", flags, "pipefail", "-c", script], cwd=work, env=environ, capture_output=True,
        text=True, check=False, timeout=RUN_SECONDS,
    )  # fmt: skip


def block_with(words: str) -> str:
    """The first block that has these words."""
    return next(block for _, block in blocks() if words in block)


RESTART = "kubectl -n tollwire rollout restart deployment"


@pytest.mark.parametrize("helm", HELMS, ids=["helm3", "helm4"])
def test_every_block_runs_in_its_order(helm: Tool, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    programs(tmp_path / "bin", helm, seen)
    script = "\n".join(block for is_online, block in blocks() if not is_online)
    # Whoever types needs longer; kubectl itself refuses to restart the same thing twice within a second.
    script = script.replace(RESTART, f"command -p sleep 1.1\n{RESTART}")
    with FakeCluster().running() as cluster:
        done = typed(script, cluster, tmp_path, flags="-euxo")
        assert done.returncode == 0, done.stderr[-4_000:]
        kept = {name for name in cluster.objects(namespace="tollwire") if not name.startswith("Secret/")}
    assert kept >= {"PersistentVolumeClaim/tollwire-ledger", "Cluster/tollwire-restored"}
    assert not [name for name in kept if name.startswith(("Deployment/", "Job/", "Pod/"))]
    inside = [line.partition(" -- ")[2] for line in seen.read_text(encoding="utf-8").splitlines()]
    told = [f"tollwire {command.partition('tollwire ')[2]}" for command in inside if "tollwire " in command]
    # Where one of a chain fails, bash goes on after the chain, whatever it was told.
    assert [one for one in told if one.startswith("tollwire ledger verify --full")]
    assert [fault for command in told for fault in faults_of(command)] == []


SECRETS = {
    "tollwire-postgres-ledger": "password",
    "tollwire-nats": "token",
    "tollwire-keyring": "keyring.json",
    "tollwire-restored-ca": "ca.crt",
}


@pytest.mark.parametrize(
    ("failing", "last"),
    [
        ("the pod", ""),
        ("-- tollwire recover", "tollwire recover"),
        ("-- cat", "cat"),
        ("-- tollwire ledger", "tollwire ledger verify"),
    ],
)
def test_what_fails_in_a_restore_is_the_last_that_is_done_and_loses_nothing(
    failing: str, last: str, tmp_path: Path
) -> None:
    """Nobody who pastes a block has told the shell to stop at what fails."""
    seen = tmp_path / "seen"
    seen.touch()
    programs(tmp_path / "bin", HELMS[1], seen)
    secrets = {} if failing == "the pod" else SECRETS
    made = [f"create secret generic {name} --from-literal={key}=x" for name, key in secrets.items()]
    before = "\n".join(f"kubectl -n tollwire {words}" for words in made)
    script = block_with("tollwire recover").replace("--timeout=10m", "--timeout=1s")
    with FakeCluster().running() as cluster:
        typed(f"kubectl create namespace tollwire\n{before}", cluster, tmp_path, flags="-euo")
        done = typed(script, cluster, tmp_path, flags="-uo", failing=failing)
        assert "Pod/tollwire-recover" in cluster.objects(namespace="tollwire"), "it has the list"
    assert done.returncode != 0, done.stderr
    called = [line.partition(" -- ")[2] for line in seen.read_text(encoding="utf-8").splitlines()]
    assert called[-1:] == [] if not last else called[-1].startswith(last), called


def test_after_production_every_release_is_made_of_the_same_files() -> None:
    """A file that is left out takes back what it says: the ingress, the standbys, the backup."""
    after = DOCUMENT.read_text(encoding="utf-8").partition("## Backups")[2]
    releases = re.findall(r"^helm (?:upgrade|template) .*", after, re.MULTILINE)
    assert len(releases) >= 5
    assert [one for one in releases if "-f $VALUES" not in one] == []


def test_no_key_is_used_before_every_process_knows_it() -> None:
    """Who has the keyring of before cannot open what another seals."""
    block = block_with("keyring rotate --finish")
    # By itself: in a pipe it could fail unseen, and the rest would go on at once.
    asks = "names=$(kubectl -n tollwire get deployment -o name) &&"
    waits = f'{asks}\n  echo "$names" | xargs -n 1 kubectl -n tollwire rollout status --timeout=10m &&'
    assert waits in block.partition(RESTART)[2].partition("rotate --finish")[0]


def test_only_what_needs_the_internet_is_left_out() -> None:
    for is_online, block in blocks():
        assert is_online is any(word in block for word in ONLINE_WORDS), block


def test_no_secret_stands_on_a_command_line_of_helm() -> None:
    for _, block in blocks():
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("helm "):
                assert not [word for word in shlex.split(line) if re.search("password|token=|secret=", word)]
