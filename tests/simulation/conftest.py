"""What all tests of the simulation share."""

import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog

from tests.simulation.many import quiet


@pytest.fixture(autouse=True)
def _unlogged() -> Iterator[None]:
    """Keep no log: writing the thousands of lines of a history takes longer than playing it."""
    before = structlog.get_config()
    with warnings.catch_warnings():
        quiet()
        yield
    structlog.configure(**before)
    logging.disable(logging.NOTSET)
