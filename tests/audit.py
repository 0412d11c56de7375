"""What ships, and whether a fault of it is known: ``make audit``.

Writes a CycloneDX bill of materials from the hashed requirements, which needs no network, and proves that
it names each of them; then asks an advisory service about them with pip-audit. Where no service can be
reached, nothing was asked, and it says so; ``--required`` makes that a failure (before a release).
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
REQUIREMENTS: Final = ROOT / "requirements.txt"
SBOM: Final = ROOT / "build" / "sbom.cdx.json"
PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)
# A service that is there answers for each package within a second or two.
ASK_SECONDS: Final = 10
AUDIT_SECONDS: Final = 300
UNREACHABLE: Final = re.compile(
    r"connect|resolve|timed? ?out|unreachable|proxy|SSL|404|403|50\d", re.IGNORECASE
)


def main() -> int:
    """Return 0 when all is well, 1 when something is known, or was to be asked and could not be."""
    pins = {(name.lower(), version) for name, version in PIN.findall(REQUIREMENTS.read_text("utf-8"))}
    missing = pins - _bill_of_materials()
    if missing:
        print(f"The bill of materials misses {sorted(missing)}.")
        return 1
    print(f"{SBOM.relative_to(ROOT)}: {len(pins)} components, each pinned and hashed.")
    return _ask(is_required="--required" in sys.argv[1:])


def _bill_of_materials() -> set[tuple[str, str]]:
    SBOM.parent.mkdir(exist_ok=True)
    command = [
        "cyclonedx-py", "requirements", str(REQUIREMENTS), "--of", "JSON",
        "-o", str(SBOM), "--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=AUDIT_SECONDS)
    found = json.loads(SBOM.read_text("utf-8"))["components"]
    return {(one["name"].lower(), one["version"]) for one in found if one.get("hashes") or _hashes(one)}


def _hashes(component: dict[str, object]) -> bool:
    """Whether the hashes of the requirements' line came along: CycloneDX keeps them by distribution."""
    return '"hashes"' in json.dumps(component.get("externalReferences", []))


def _ask(*, is_required: bool) -> int:
    command = [
        "pip-audit", "--requirement", str(REQUIREMENTS), "--disable-pip", "--require-hashes",
        "--progress-spinner", "off", "--format", "json", "--timeout", str(ASK_SECONDS),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=AUDIT_SECONDS)
        told, errors = done.stdout, done.stderr
    except subprocess.TimeoutExpired:  # a network that swallows packets, once for each package
        told, errors = "", "timed out"
    try:
        packages = json.loads(told)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        if not UNREACHABLE.search(errors):
            print(f"pip-audit failed:\n{errors[-2000:]}")
            return 1
        print("No advisory service could be reached: NOTHING WAS ASKED about known faults.")
        return 1 if is_required else 0
    faults = [(one["name"], one["version"], fault) for one in packages for fault in one.get("vulns", [])]
    for name, version, fault in faults:
        print(
            f"{name} {version}: {fault['id']}, fixed in {', '.join(fault['fix_versions']) or 'nothing yet'}"
        )
    print(f"{len(packages)} packages asked about, {len(faults)} known faults.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
