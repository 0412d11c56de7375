"""What is parted in the mesh hears nothing of the others, and the others hear each other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from embedded.ports import LOOPBACK
from tests.chaos.mesh import Mesh, open_mesh

LINE = b"hello\n"
NAMES = ("one", "two", "three")


Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echoes:
    """Three servers that echo, the mesh between them, and connections through it."""

    def __init__(self) -> None:
        self.mesh: Mesh
        self._writers: list[asyncio.StreamWriter] = []
        self._echoes: list[asyncio.Task[None]] = []

    async def connect(self, here: str, there: str) -> Pair:
        pair = await asyncio.open_connection(LOOPBACK, self.mesh.ports[here, there])
        self._writers.append(pair[1])
        return pair

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._echoes.append(asyncio.create_task(self._echo(reader, writer)))

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                writer.write(line)

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)
        await asyncio.gather(*self._echoes)


@asynccontextmanager
async def open_echoes() -> AsyncIterator[Echoes]:
    echoes = Echoes()
    servers = {name: await asyncio.start_server(echoes.serve, LOOPBACK, 0) for name in NAMES}
    ports = {name: server.sockets[0].getsockname()[1] for name, server in servers.items()}
    with open_mesh(ports) as echoes.mesh:
        yield echoes
        await echoes.close()
    for server in servers.values():
        server.close()


async def said(pair: Pair) -> bytes:
    """Say something and hear the echo."""
    reader, writer = pair
    writer.write(LINE)
    return await reader.readline()


async def test_a_silent_partition_keeps_what_is_said_until_it_is_healed() -> None:
    async with open_echoes() as echoes:
        mesh = echoes.mesh
        parted, others = await echoes.connect("two", "one"), await echoes.connect("two", "three")
        assert [await said(parted), await said(others)] == [LINE, LINE]
        mesh.part("one", is_silent=True)
        assert await said(others) == LINE  # by then the partition stands: its thread does one after the other
        passed_bytes = mesh.passed_bytes("one")
        parted[1].write(LINE)
        assert await said(others) == LINE
        assert mesh.passed_bytes("one") == passed_bytes
        mesh.heal()
        assert await parted[0].readline() == LINE
        assert mesh.passed_bytes("one") == passed_bytes + 2 * len(LINE)


async def test_a_partition_that_cuts_closes_connections_in_both_directions_and_refuses_new_ones() -> None:
    async with open_echoes() as echoes:
        mesh = echoes.mesh
        inward, outward = await echoes.connect("two", "one"), await echoes.connect("one", "three")
        assert [await said(inward), await said(outward)] == [LINE, LINE]
        mesh.part("one", is_silent=False)
        for reader, _ in (inward, outward, await echoes.connect("three", "one")):
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        assert await said(await echoes.connect("three", "two")) == LINE
        mesh.heal()
        assert await said(await echoes.connect("two", "one")) == LINE


async def test_each_server_has_a_way_of_its_own_to_each_other() -> None:
    async with open_echoes() as echoes:
        mesh = echoes.mesh
        assert set(mesh.ports) == {(a, b) for a in NAMES for b in NAMES if a != b}
        assert len(set(mesh.ports.values())) == 6
        assert sorted(mesh.ports_of("one")) == sorted(
            port for (here, _), port in mesh.ports.items() if here == "one"
        )
