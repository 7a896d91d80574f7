"""What one operation works with: the book, the settings, the time, and who asked."""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from web.sandbox_psp.book import Book, Stored
from web.sandbox_psp.config import Config, Settings, changed
from web.sandbox_psp.errors import missing
from web.sandbox_psp.faults import Scripts
from web.sandbox_psp.policy import Running


@dataclass
class Sandbox:
    """The running sandbox: its book, the settings of this moment, and the faults to come.

    Scripts and policy live in memory only: a new process begins without faults.
    """

    config: Config
    book: Book
    settings: Settings = field(default_factory=Settings)
    scripts: Scripts = field(default_factory=Scripts)
    policy: Running | None = None

    def load_settings(self) -> None:
        """Take the settings that the book kept."""
        self.settings = changed(Settings(), self.book.fact("settings") or {})

    def change_settings(self, change: dict[str, Any]) -> None:
        """Change settings and keep the change; raises msgspec.ValidationError for a wrong one."""
        self.settings = changed(self.settings, change)
        self.book.set_fact("settings", msgspec.to_builtins(self.settings))

    @property
    def down(self) -> bool:
        """Return whether the API is switched off at this moment."""
        until = self.settings.down_until
        return self.settings.down and (until == 0 or time.time() < until)

    def work(self, *, request_id: str | None = None, key: str | None = None) -> "Work":
        """Begin an operation now."""
        return Work(sandbox=self, now=time.time(), request_id=request_id, key=key)


@dataclass
class Work:
    """One operation. `now` is epoch seconds; `fault` collects what the answer must suffer."""

    sandbox: Sandbox
    now: float
    request_id: str | None = None
    key: str | None = None
    webhook_policy: str | None = None
    waits_for_webhooks: bool = False
    holds_key: bool = False
    moves_another_amount: bool = False
    faults: list[Any] = field(default_factory=list)
    emitted: list[str] = field(default_factory=list)
    effect: list[str] = field(default_factory=list)

    @property
    def book(self) -> Book:
        """Return the book."""
        return self.sandbox.book

    @property
    def settings(self) -> Settings:
        """Return the settings of this moment."""
        return self.sandbox.settings

    @property
    def epoch(self) -> int:
        """Return now in whole seconds, as objects carry it."""
        return int(self.now)

    def need(
        self, kind: str, object_id: str, *, param: str | None = None, status: int = 404
    ) -> Stored:
        """Return an object; raises ApiError when there is none."""
        found = self.book.find(kind, object_id)
        if found is None:
            raise missing(kind, object_id, param=param, status=status)
        return found


def new_id(prefix: str) -> str:
    """Return a new id that nobody can guess."""
    return f"{prefix}_{secrets.token_hex(12)}"
