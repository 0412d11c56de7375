"""Where a simulated carrier's receipts arrive: checked and read as dlr does it, and kept."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from shared.domain.receipt_auth import verify_receipt_auth
from shared.domain.receipts import CarrierReceipt, ReceiptSettings, parse_receipts, read_receipt_settings


@dataclass
class ReceiptDesk:
    """`refuse` is how many POSTs are answered 503 first; `posts` counts the taken ones."""

    settings: ReceiptSettings
    secret: bytes
    url: str = ""
    refuse: int = 0
    posts: int = 0
    refused: int = 0
    receipts: list[CarrierReceipt] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, request: web.Request) -> web.Response:
        """Take one POST."""
        body = await request.read()
        verify_receipt_auth(
            self.settings.auth, self.secret, request.headers, request.remote, body, time.time()
        )
        found, refused, undated = parse_receipts(self.settings, body, request.content_type)
        if refused or undated:
            raise ValueError(f"{refused}, and {undated} without a date that can be read")
        async with self.changed:
            if self.refused < self.refuse:
                self.refused += 1
                self.changed.notify_all()
                return web.Response(status=503)
            self.posts += 1
            self.receipts += found
            self.changed.notify_all()
        return web.Response()

    async def until(self, count: int) -> list[CarrierReceipt]:
        """Return all receipts once there are so many."""
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: len(self.receipts) >= count)
        return self.receipts

    async def until_refused(self, count: int) -> None:
        """Return once so many POSTs were refused."""
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: self.refused >= count)


@asynccontextmanager
async def receipt_desk(carrier_settings: Mapping[str, object], secret: bytes) -> AsyncIterator[ReceiptDesk]:
    """Run such a desk on a free port."""
    settings = read_receipt_settings(carrier_settings)
    if settings is None:
        raise ValueError("these settings have no receipts")
    desk = ReceiptDesk(settings, secret)
    app = web.Application()
    app.router.add_post("/receipts/simulator", desk.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        desk.url = f"http://127.0.0.1:{runner.addresses[0][1]}/receipts/simulator"
        yield desk
    finally:
        await runner.cleanup()
