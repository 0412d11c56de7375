"""The least that an aiohttp server can do with a message: read the JSON, answer 202. It keeps nothing.

python -m bench.yardsticks.bare_handler PORT
"""

import gc
import sys

import msgspec
import uvloop
from aiohttp import web

BACKLOG = 2048
_ANSWER = {"status": "QUEUED", "segments": 1, "price": {"amount": "0.0005", "currency": "EUR"}}


async def post(request: web.Request) -> web.Response:
    """Answer one message."""
    message = msgspec.json.decode(await request.read())
    body = msgspec.json.encode({"id": "0", "to": message["to"], **_ANSWER})
    return web.Response(body=body, status=202, content_type="application/json")


def main() -> None:
    """Serve until a signal."""
    app = web.Application()
    app.router.add_post("/v1/messages", post)
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    web.run_app(
        app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, backlog=BACKLOG,
        loop=uvloop.new_event_loop(),
    )  # fmt: skip


if __name__ == "__main__":
    main()
