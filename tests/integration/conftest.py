"""Commands switch the logs of their process off: each test has them on again."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logs_are_on() -> Iterator[None]:
    yield
    structlog.reset_defaults()
