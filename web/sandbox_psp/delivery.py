"""The courier: signed events travel to their endpoints, again and again until they are taken."""

import asyncio
import hashlib
import hmac
import http.client
import random
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from web.sandbox_psp.work import Sandbox

_LANES = 8
_NOTHING_DUE = 3600.0


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """One try of one delivery."""

    id: int
    event: str
    url: str
    secrets: tuple[str, ...]
    body: bytes
    tries: int
    began: float


class Courier:
    """Sends what the outbox holds. Rows are the truth; the courier only remembers what flies."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._bell = asyncio.Event()
        self._flying: dict[int, asyncio.Task[None]] = {}
        self._pool = ThreadPoolExecutor(_LANES, thread_name_prefix="courier")
        self._lines = threading.local()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to deliver."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; what flies is cut off and tried again after the next start."""
        tasks = [*self._flying.values()]
        if self._task is not None:
            tasks.append(self._task)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def wake(self) -> None:
        """Look into the outbox now."""
        self._bell.set()

    async def first_tries(self, events: list[str]) -> None:
        """Return once each copy of these events was tried at least once, or after 5 seconds."""
        marks = ",".join("?" * len(events))
        end = time.monotonic() + 5
        while time.monotonic() < end:
            row = self._sandbox.book.execute(
                f"SELECT count(*) FROM deliveries WHERE tries = 0 "  # noqa: S608 - only marks.
                f"AND due IS NOT NULL AND event IN ({marks})",
                tuple(events),
            ).fetchone()
            if row[0] == 0:
                return
            await asyncio.sleep(0.02)

    async def _run(self) -> None:
        while True:
            self._bell.clear()
            wait = self._launch()
            try:
                await asyncio.wait_for(self._bell.wait(), wait)
            except TimeoutError:
                continue

    def _launch(self) -> float:
        """Start what is due and free to fly; return the seconds until the next is due."""
        now = time.time()
        if self._sandbox.settings.webhooks.paused:
            return _NOTHING_DUE
        rows = self._sandbox.book.execute(
            "SELECT d.id, d.event, d.tries, d.due, ev.body AS event_body, ev.created AS began, "
            "json_extract(we.body, '$.url') AS url, we.private AS we_private "
            "FROM deliveries d JOIN objects ev ON ev.id = d.event "
            "JOIN objects we ON we.id = d.endpoint "
            "WHERE d.due IS NOT NULL ORDER BY d.due LIMIT 64"
        ).fetchall()
        for row in rows:
            if row["id"] in self._flying:
                continue
            if row["due"] > now:
                return float(row["due"] - now)
            if len(self._flying) >= _LANES:
                return _NOTHING_DUE
            parcel = Parcel(
                id=row["id"],
                event=row["event"],
                url=row["url"],
                secrets=_secrets(row["we_private"], now),
                body=row["event_body"],
                tries=row["tries"],
                began=row["began"],
            )
            task = asyncio.create_task(self._carry(parcel))
            self._flying[parcel.id] = task
        return _NOTHING_DUE

    async def _carry(self, parcel: Parcel) -> None:
        rules = self._sandbox.settings.webhooks
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self._pool, self._post, parcel, rules.timeout)
            self._note(parcel, answer)
            await self._sandbox.book.durable()
        finally:
            del self._flying[parcel.id]
            self._bell.set()

    def _note(self, parcel: Parcel, answer: str) -> None:
        rules = self._sandbox.settings.webhooks
        now = time.time()
        due: float | None = None
        status = "delivered" if answer.startswith("2") else "failed"
        if status == "failed" and now - parcel.began < rules.give_up_after:
            status = "pending"
            pause = min(rules.retry_cap, rules.retry_base * 2.0 ** min(parcel.tries, 30))
            due = now + pause * random.uniform(0.8, 1.2)
        self._sandbox.book.execute(
            "UPDATE deliveries SET due = ?, status = ?, tries = tries + 1, last_answer = ? "
            "WHERE id = ? AND status = 'pending'",
            (due, status, answer, parcel.id),
        )

    # --- in a thread of the pool --------------------------------------------------------------

    def _post(self, parcel: Parcel, timeout: float) -> str:
        """Send one parcel; return the status as text, or why there is none."""
        parts = urlsplit(parcel.url)
        moment = int(time.time())
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "SandboxPSP/1.0",
            "Stripe-Signature": sign(parcel.body, parcel.secrets, moment),
        }
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        origin = f"{parts.scheme}://{parts.netloc}"
        fresh = origin not in self._open_lines()
        try:
            return self._exchange(origin, path or "/", parcel.body, headers, timeout)
        except (http.client.HTTPException, OSError) as error:
            self._hang_up(origin)
            if fresh or isinstance(error, TimeoutError):
                return f"{type(error).__name__}: {error}"[:200]
        try:
            # The endpoint had closed the idle connection: that was no try at all.
            return self._exchange(origin, path or "/", parcel.body, headers, timeout)
        except (http.client.HTTPException, OSError) as error:
            self._hang_up(origin)
            return f"{type(error).__name__}: {error}"[:200]

    def _exchange(
        self, origin: str, path: str, body: bytes, headers: dict[str, str], timeout: float
    ) -> str:
        lines = self._open_lines()
        if origin not in lines:
            parts = urlsplit(origin)
            lines[origin] = (
                http.client.HTTPSConnection(
                    parts.netloc, timeout=timeout, context=ssl.create_default_context()
                )
                if parts.scheme == "https"
                else http.client.HTTPConnection(parts.netloc, timeout=timeout)
            )
        lines[origin].request("POST", path, body, headers)
        response = lines[origin].getresponse()
        response.read(65536)
        if not response.isclosed():
            self._hang_up(origin)
        return str(response.status)

    def _open_lines(self) -> dict[str, http.client.HTTPConnection]:
        lines: dict[str, http.client.HTTPConnection] | None
        lines = getattr(self._lines, "open", None)
        if lines is None:
            lines = self._lines.open = {}
        return lines

    def _hang_up(self, origin: str) -> None:
        line = self._open_lines().pop(origin, None)
        if line is not None:
            line.close()


def _secrets(private: bytes, now: float) -> tuple[str, ...]:
    known = msgspec.json.decode(private)
    if now < known.get("old_until", 0):
        return known["secret"], known["old_secret"]
    return (known["secret"],)


def sign(body: bytes, secrets: tuple[str, ...], moment: int) -> str:
    """Return the signature header of a body at a moment in epoch seconds, one `v1` a secret."""
    signed = str(moment).encode() + b"." + body
    digests = [hmac.new(key.encode(), signed, hashlib.sha256).hexdigest() for key in secrets]
    return ",".join([f"t={moment}", *(f"v1={digest}" for digest in digests)])


def listing(sandbox: Sandbox, *, limit: int = 200) -> list[dict[str, object]]:
    """Return the newest deliveries with the type of their events."""
    rows = sandbox.book.execute(
        "SELECT d.*, ev.body AS event_body FROM deliveries d JOIN objects ev ON ev.id = d.event "
        "ORDER BY d.id DESC LIMIT ?",
        (limit,),
    )
    found = []
    for row in rows:
        entry = dict(row)
        entry["type"] = msgspec.json.decode(entry.pop("event_body"))["type"]
        found.append(entry)
    return found
