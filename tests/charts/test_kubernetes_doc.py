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
from typing import Final

import pytest

from tests.architecture.test_docs import faults_of
from tests.charts.kube.server import FakeCluster
from tests.charts.tools import HELMS, KUBECTL, Tool

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = ROOT / "docs" / "kubernetes.md"
BLOCK: Final = re.compile(r"(<!-- online -->\n)?^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
ONLINE_WORDS: Final = ("helm repo", "cnpg/", "nats/nats", "docker build", "docker push")
RUN_SECONDS: Final = 280

# In a pod: noted; what prints something prints something like it. The rest is kubectl's own.
IN_A_POD: Final = """#!/bin/sh
for word in "$@"; do case $word in
  exec) printf '%s\\n' "$*" >> @SEEN@; case "$*" in *--json) echo '{"key": "tw_id_secret"}';; esac; exit 0;;
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


RESTART = "kubectl -n tollwire rollout restart deployment"


@pytest.mark.parametrize("helm", HELMS, ids=["helm3", "helm4"])
def test_every_block_runs_in_its_order(helm: Tool, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    programs(tmp_path / "bin", helm, seen)
    work = tmp_path / "clone"
    work.mkdir()
    for name in ("charts", "docs"):
        (work / name).symlink_to(ROOT / name)
    script = "\n".join(block for is_online, block in blocks() if not is_online)
    # Whoever types needs longer; kubectl itself refuses to restart the same thing twice within a second.
    script = script.replace(RESTART, f"command -p sleep 1.1\n{RESTART}")
    with FakeCluster().running() as cluster:
        path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.defpath}"
        environ = {"PATH": path, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
        environ["KUBECONFIG"] = str(cluster.kubeconfig(tmp_path))
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", script], cwd=work, env=environ, capture_output=True,
            text=True, check=False, timeout=RUN_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4_000:]
        kept = {name for name in cluster.objects(namespace="tollwire") if not name.startswith("Secret/")}
    assert kept >= {"PersistentVolumeClaim/tollwire-ledger", "Cluster/tollwire-restored"}
    assert not [name for name in kept if name.startswith(("Deployment/", "Job/", "Pod/"))]
    inside = [line.partition(" -- ")[2] for line in seen.read_text(encoding="utf-8").splitlines()]
    told = [f"tollwire {command.partition('tollwire ')[2]}" for command in inside if "tollwire " in command]
    assert any("recover" in command for command in told)
    assert [fault for command in told for fault in faults_of(command)] == []


def test_only_what_needs_the_internet_is_left_out() -> None:
    for is_online, block in blocks():
        assert is_online is any(word in block for word in ONLINE_WORDS), block


def test_no_secret_stands_on_a_command_line_of_helm() -> None:
    for _, block in blocks():
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("helm "):
                assert not [word for word in shlex.split(line) if re.search("password|token=|secret=", word)]
