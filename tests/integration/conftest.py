"""What is logged beside a command: commands run in the process of a test, as do services that they ask."""

import sys
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logs_are_on() -> Iterator[None]:
    """Logs go where pytest keeps them, not into what a command says meanwhile; commands switch them off."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    yield
    structlog.reset_defaults()
