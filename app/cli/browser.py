"""Find a Chromium for the end-to-end tests, or fetch one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_ASK = "from playwright.sync_api import sync_playwright as s\nwith s() as p: print(p.{}.{})"


def find() -> str | None:
    """Return the path of a Chromium, or None when there is none and none can be fetched.

    `CHROMIUM` decides when it is set; nothing is fetched then.
    """
    if named := os.environ.get("CHROMIUM"):
        return shutil.which(named)
    for candidate in ("/usr/bin/chromium", *map(shutil.which, _NAMES), _playwrights_own()):
        if candidate and Path(candidate).exists():
            return candidate
    return _fetched_by_playwright() or _fetched_by_apt()


def _playwrights_own() -> str | None:
    ask = _ASK.format("chromium", "executable_path")
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _fetched_by_playwright() -> str | None:
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    # A browser without its system libraries is of no use, so it has to show its version.
    if subprocess.run(command, check=False).returncode == 0:
        own = _playwrights_own()
        if own and _starts(own):
            return own
    return None


def _fetched_by_apt() -> str | None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return None
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-q"], ["install", "-y", "-q", "chromium"]):
        if subprocess.run(["apt-get", *command], env=environment, check=False).returncode:
            return None
    return shutil.which("chromium")


def _starts(path: str) -> bool:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
