"""What all tests of the simulation share."""

import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator

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


@pytest.fixture
def elsewhere() -> Callable[[str], str]:
    """Run a program in a process of its own; return the last line that it prints."""

    def run(program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()[-1]

    return run
