"""For `helm test`: asks each URL until all answer 200, for a minute at most, and says how each fared."""

import sys
import time
import urllib.request

TIME_SECONDS = 60


def ask(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except OSError as error:
        return error


give_up_at = time.monotonic() + TIME_SECONDS
waiting = sys.argv[1:]
while waiting:
    answers = {url: ask(url) for url in waiting}
    for url in [url for url, answer in answers.items() if answer == 200]:
        print("ok", url, flush=True)
        waiting.remove(url)
    if waiting and time.monotonic() > give_up_at:
        sys.exit("\n".join(f"failed {url}: {answers[url]}" for url in waiting))
    if waiting:
        time.sleep(1)
