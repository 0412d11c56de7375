"""Ends what a supervisor that was killed left behind. On Linux the kernel has told them to stop already."""

from collections.abc import Callable

from cli.home import Home
from embedded.child import Child, StopStep
from embedded.linked_data import refuse_foreign
from embedded.postgres import PostgresServer
from embedded.unit import Unit, await_through


async def stop_leftovers(home: Home, record: Callable[[str], None]) -> None:
    """Stop every process that a pid file of this home names, services before servers.

    A file that came with a copy of another home names none (see embedded/child.py).

    The caller holds the home's lock, so nobody who is alive watches over them.

    Raises:
        NotItsData: its PostgreSQL is another home's, which may be watched over.
    """
    refuse_foreign(home.postgres)
    places = sorted(home.run.glob("*/*.pid"))
    for folder in (home.prometheus, home.valkey, home.nats, home.postgres):
        places += sorted(folder.glob("*.pid")) if folder.exists() else []
    for pid_file in places:
        name = pid_file.stem
        child = Child(name, pid_file.parent, home.log_of(name))
        steps: tuple[StopStep, ...] = tuple((PostgresServer if name == "postgresql" else Unit).stop_steps)
        if child.has_leftover:
            record(f"{name} was left behind by an earlier run: stopping it")
        await await_through(child.stopping_leftover(steps))
