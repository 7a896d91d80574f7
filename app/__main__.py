"""`python3 -m app`: make the environment from the lock and hand over; standard library only."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
VENV = ROOT / ".venv"
TOOLS = ROOT / ".tools"
DEVELOPMENT_MARK = "# --- development ---"


class SetupError(Exception):
    """The environment cannot be made; the message is one sentence for the user."""


def main() -> None:
    """Make `.venv` fit the lock, then become `counterfoil` inside it.

    Exits with 1 and one sentence when this machine lacks something.
    """
    arguments = sys.argv[1:]
    try:
        prepare(development=bool(arguments) and arguments[0] in {"test", "lock"})
    except SetupError as error:
        sys.exit(f"counterfoil: {error}")
    keep_bytecode(os.environ)
    launcher = str(VENV / "bin" / "counterfoil")
    # The launcher keeps the working directory, so that relative paths mean what the user typed.
    os.execv(launcher, [launcher, *arguments])  # noqa: S606 - no shell is wanted


def prepare(*, development: bool) -> None:
    """Make `.venv` hold the lock's packages; nothing to do costs nothing.

    Raises SetupError with one sentence for the user.
    """
    if sys.version_info < (3, 11):  # noqa: UP036 - the user's Python may be older than we ask for
        raise SetupError(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}.")
    stamp = VENV / ".counterfoil.json"
    wanted = _wanted()
    if _fits(stamp, wanted, development=development):
        return
    try:
        TOOLS.mkdir(exist_ok=True)
        with _only_one():
            # Another start may have done the work while this one waited.
            if not _fits(stamp, wanted, development=development):
                _build(stamp, wanted, development=development)
    except PermissionError as error:
        raise SetupError(f"cannot write to {error.filename or ROOT}.") from error


def keep_bytecode(environment: "MutableMapping[str, str]") -> None:
    """Let Python keep what it compiled, apart from the sources, where it was told not to.

    Many containers set that variable for a smaller image; each process would then compile every
    module again, and that takes longer than all the rest of a start.
    """
    if environment.pop("PYTHONDONTWRITEBYTECODE", ""):
        environment.setdefault("PYTHONPYCACHEPREFIX", str(VENV / "bytecode"))


def find_uv() -> str:
    """Return the path of uv: the machine's own, or one put into `.tools` with pip.

    Raises SetupError when there is neither uv nor pip.
    """
    own = TOOLS / "bin" / "uv"
    found = shutil.which("uv") or (str(own) if own.exists() else None)
    if found and not subprocess.run([found, "-V"], capture_output=True, check=False).returncode:
        return found
    pip = [_outer_python(), "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
        raise SetupError(
            "this Python has no pip, and there is no uv: install one of them "
            "(on Debian: apt-get install python3-pip)."
        )
    options = ["-q", "--disable-pip-version-check", "--no-warn-script-location", "--upgrade"]
    done = subprocess.run(
        [*pip, "install", *options, "--target", str(TOOLS), "uv"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"},
    )
    if done.returncode:
        raise SetupError(f"pip could not install uv: {_last_line(done.stderr)}")
    return str(own)


def index_environment(*, extra_sources: bool) -> dict[str, str]:
    """Return the environment with pip's own settings made known to uv, which reads none of them.

    `extra_sources` adds pip's further indexes and folders: right for installing what hashes pin,
    wrong for making the lock, which must hold what everybody can get.
    """
    environment = dict(os.environ)
    found = _pip_settings()
    known = [("index-url", "UV_DEFAULT_INDEX", " "), ("cert", "SSL_CERT_FILE", " ")]
    if extra_sources:
        known += [("extra-index-url", "UV_INDEX", " "), ("find-links", "UV_FIND_LINKS", ",")]
        known += [("no-index", "UV_NO_INDEX", " ")]
        # pip treats all indexes alike; the lock's hashes make that safe here.
        environment.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    for option, variable, separator in known:
        if found.get(option):
            environment.setdefault(variable, separator.join(found[option].split()))
    return environment


def _pip_settings() -> "dict[str, str]":
    listed = subprocess.run(
        [_outer_python(), "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    found: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        scope, _, option = name.partition(".")
        # `:env:` comes first in the list and wins, as it does for pip.
        if scope in {":env:", "install", "global"}:
            found.setdefault(option, " ".join(value.strip("'\"").split("\\n")))
    return found


def _wanted() -> dict[str, str]:
    version = ".".join(map(str, sys.version_info[:3]))
    return {"lock": hashlib.sha256(LOCK.read_bytes()).hexdigest(), "python": version}


def _fits(stamp: Path, wanted: dict[str, str], *, development: bool) -> bool:
    found = _read(stamp)
    same = all(found.get(name) == value for name, value in wanted.items())
    whole = (VENV / "bin" / "python").exists() and (VENV / "bin" / "counterfoil").exists()
    return same and whole and (bool(found.get("development")) or not development)


def _read(stamp: Path) -> "dict[str, object]":
    try:
        found = json.loads(stamp.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _outer_python() -> str:
    # Inside of the environment there is no pip; the Python that made it has one.
    if sys.prefix == sys.base_prefix:
        return sys.executable
    return str(Path(sys.base_prefix) / "bin" / "python3")


def _build(stamp: Path, wanted: dict[str, str], *, development: bool) -> None:
    started = time.monotonic()
    print("counterfoil: making the Python environment ...", file=sys.stderr, flush=True)
    uv = find_uv()
    environment = index_environment(extra_sources=True)
    found = _read(stamp)
    # Once whole, it stays whole: a later `up` must not take the tools of `test` away.
    development = development or bool(found.get("development"))
    stamp.unlink(missing_ok=True)  # From here on the environment counts as broken until it is done.
    if found.get("python") != wanted["python"] or not (VENV / "bin" / "python").exists():
        shutil.rmtree(VENV, ignore_errors=True)
        _run([uv, "venv", "-q", "--python", sys.executable, str(VENV)], environment)
    section = TOOLS / "requirements.txt"
    text = LOCK.read_text()
    section.write_text(text if development else text.partition(DEVELOPMENT_MARK)[0])
    python_path = str(VENV / "bin" / "python")
    command = [uv, "pip", "sync", "-q", "--python", python_path, "--require-hashes", str(section)]
    _run(command, environment)
    _write_launcher()
    partial = stamp.with_suffix(".new")
    partial.write_text(json.dumps({**wanted, "development": development}))
    partial.replace(stamp)
    seconds = time.monotonic() - started
    print(f"counterfoil: environment ready in {seconds:.1f} s", file=sys.stderr, flush=True)


def _run(command: list[str], environment: "dict[str, str]") -> None:
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise SetupError("the packages of requirements.lock could not be installed (see above).")


def _write_launcher() -> None:
    # `uv pip sync` removes what the lock does not name, so the project is not installed itself.
    launcher = VENV / "bin" / "counterfoil"
    python = VENV / "bin" / "python"
    # A shell line first: a checkout's path may hold blanks, which a #! line cannot.
    launcher.write_text(
        "#!/bin/sh\n"
        f"""'''exec' '{python}' "$0" "$@"\n' '''\n"""
        f"import sys; sys.path[0] = {str(ROOT)!r}\n"
        "from app.cli.main import main; sys.exit(main())\n"
    )
    launcher.chmod(0o755)


class _only_one:  # noqa: N801 - reads as the word it is in `with _only_one():`
    """Hold the lock file of the environment; the system releases it when the holder dies."""

    def __enter__(self) -> None:
        import fcntl

        self._file = (TOOLS / ".lock").open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing."


if __name__ == "__main__":
    main()
