"""Which API a command talks to, and with which key: options, then the environment, then TOLLWIRE_HOME."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from cli.failures import Exit, Failure, Unreachable
from cli.home import Home
from cli.screen import own_command

URL_VARIABLE = "TOLLWIRE_API_URL"
KEY_VARIABLE = "TOLLWIRE_API_KEY"


class KeyFile(Enum):
    """Whose key of the home a command needs when none is named."""

    DEMO = "demo.key"
    ADMIN = "admin.key"


@dataclass(frozen=True, slots=True)
class Target:
    """An API and the key to call it with; the key shows in no repr.

    ``key_hint`` says where the key came from, for whom the API refuses it; empty where there is no key.
    """

    url: str
    key: str = field(repr=False)
    key_hint: str = field(default="", compare=False)


def find_target(api_url: str, api_key: str, environ: Mapping[str, str], key_file: KeyFile | None) -> Target:
    """Return where to send requests; empty options count as not given.

    Args:
        api_url: the option.
        api_key: the option.
        environ: TOLLWIRE_API_URL, TOLLWIRE_API_KEY, TOLLWIRE_HOME.
        key_file: the home's key that the command needs; None: it needs no key.

    Raises:
        Unreachable: nothing names an API and none runs in the home.
        Failure: no key is named and the home has none, or the address is no URL.
    """
    home = Home.of(environ)
    url = api_url or environ.get(URL_VARIABLE, "") or _running_url(home)
    if not _is_address(url):
        raise Failure(
            f"{url!r} is no address of an API.",
            hint="It looks like http://127.0.0.1:8080.",
            exit_code=Exit.USAGE,
        )
    key, hint = _find_key(api_key, environ.get(KEY_VARIABLE, ""), home, key_file)
    return Target(url.rstrip("/"), key, hint)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without an address, or a port that is none
        return False


def _running_url(home: Home) -> str:
    state = home.read_state() if home.is_running else None
    if state is not None and state.phase == "running" and not state.has_services:
        raise Unreachable(
            f"Tollwire runs without services in {home.path}.",
            hint=f"`{own_command('down')}`, then `{own_command('up')}` starts them; "
            f"--api-url or {URL_VARIABLE} names another API.",
        )
    if state is None or not state.api_url:
        raise Unreachable(
            f"No Tollwire runs in {home.path}.",
            hint=f"Start one with `tollwire up`, or name one by --api-url or {URL_VARIABLE}.",
        )
    return state.api_url


def _find_key(option: str, variable: str, home: Home, key_file: KeyFile | None) -> tuple[str, str]:
    """The key, and where it came from in a sentence that says what to do when it is the wrong one."""
    if option:
        return option, "The key is that of --api-key."
    file = None if key_file is None else home.path / key_file.value
    if variable:
        without = f"; without it, {file} is used" if file is not None and file.exists() else ""
        return variable, f"The key is that of {KEY_VARIABLE}{without}. --api-key names another."
    if file is None:
        return "", ""
    return _key_in(file), f"The key is that in {file}; --api-key or {KEY_VARIABLE} names another."


def _key_in(file: Path) -> str:
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        key = ""
    if not key:
        raise Failure(
            "No API key is named.",
            hint=f"Name one by --api-key or {KEY_VARIABLE}; there is none in {file}.",
            exit_code=Exit.UNAUTHORIZED,
        )
    return key
