"""Asks URLs until each answers 200, for `helm test` and compose: ``python -m cli.ask URL…``."""

import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Final

# How long a deployment may take to become ready.
PATIENCE_SECONDS: Final = 60.0
ANSWER_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 1.0


def ask(url: str) -> str:
    """Return "200", another status, or the error."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - our own caller's
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError as error:
        return str(error)


def ask_all(
    urls: Sequence[str],
    *,
    patience_seconds: float = PATIENCE_SECONDS,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Ask until all answer 200, and say how each fared; return how many never did."""
    give_up_at = time.monotonic() + patience_seconds
    waiting = list(urls)
    while True:
        answers = {url: ask(url) for url in waiting}
        waiting = [url for url, answer in answers.items() if answer != "200"]
        for url in answers.keys() - set(waiting):
            print("ok", url, flush=True)
        if not waiting or time.monotonic() >= give_up_at:
            break
        pause(RETRY_SECONDS)
    for url in waiting:
        print("failed", url, answers[url], flush=True)
    return len(waiting)


if __name__ == "__main__":
    sys.exit(min(ask_all(sys.argv[1:]), 1))
