"""Builds the image without a daemon: ``python -m tests.charts.image FOLDER`` (root, buildah, mmdebstrap).

The base is a Debian with Python that mmdebstrap makes, since a registry may be out of reach; everything
above it is the Dockerfile's. FOLDER keeps the base and buildah's storage.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.charts.tools import ROOT

DEBIAN: Final = "trixie"  # Python 3.13
BASE: Final = "localhost/python:debian"
IMAGE: Final = "localhost/tollwire:rehearsal"
STEP_SECONDS: Final = 580
# So that pip in the build reaches what pip reaches here.
BORROWED: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")


class Images:
    """buildah with a storage of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._buildah = (
            "buildah", "--root", folder / "storage", "--runroot", folder / "run", "--storage-driver", "vfs"
        )  # fmt: skip

    def run(self, *arguments: str | Path) -> str:
        """Run buildah and return what it printed."""
        done = subprocess.run(
            [*self._buildah, *arguments], stdout=subprocess.PIPE, text=True, timeout=STEP_SECONDS, check=True
        )
        return done.stdout.strip()

    def make_base(self) -> None:
        """Make the base image, once."""
        if self._has(BASE):
            return
        tar = self.folder / "base.tar"
        if not tar.exists():
            include = "--include=python3,python3-venv,ca-certificates,passwd"
            # Without a mirror named, mmdebstrap takes the release's own.
            command = ("mmdebstrap", "--variant=minbase", include, DEBIAN, tar)
            subprocess.run(command, timeout=STEP_SECONDS, check=True)
        container = self.run("from", "scratch")
        self.run("add", "--quiet", container, tar, "/")
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.run("config", "--env", path, container)
        self.run("commit", "--quiet", container, BASE)
        self.run("rm", container)

    def build(self) -> None:
        """Build the image by the Dockerfile."""
        volumes = [
            word for path in BORROWED if Path(path).exists() for word in ("--volume", f"{path}:{path}:ro")
        ]
        self.run(
            "bud", "--isolation", "chroot", "--pull-never", "--network", "host",
            "--build-arg", f"PYTHON_IMAGE={BASE}", *volumes, "--tag", IMAGE, ROOT,
        )  # fmt: skip

    def _has(self, image: str) -> bool:
        done = subprocess.run(
            [*self._buildah, "inspect", image],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return done.returncode == 0

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """The image's file system, for as long as it is needed."""
        container = self.run("from", "--pull-never", IMAGE)
        try:
            yield Path(self.run("mount", container))
        finally:
            self.run("umount", container)
            self.run("rm", container)


def open_images(folder: Path) -> Images:
    """Return buildah in a folder that is made when it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        raise SystemExit("building without a daemon needs root")
    return Images(folder.absolute())


if __name__ == "__main__":
    images = open_images(Path(sys.argv[1]))
    images.make_base()
    images.build()
