"""Requests as bytes: what no HTTP client would send reaches the application in this process."""

import asyncio
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec

Headers = Sequence[tuple[bytes, bytes]]
# Nothing of how we are made belongs in an answer to a stranger.
INSIDE = re.compile(
    rb"(?i)Traceback|File \\?\"|sqlalchemy|sqlite|asyncpg|litestar|msgspec|whsec_test|no signature"
)


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Read the body."""
        return json.loads(self.body)


async def ask(
    app: Any,
    method: str,
    address: bytes,
    *,
    headers: Headers = (),
    body: Iterable[bytes] = (),
    pause: float = 0.0,
) -> Answer:
    """Send one request with these very bytes; `address` is the path and, after `?`, the query.

    `pause` is how many seconds pass before each part of the body. The scope is made as uvicorn
    makes it, so that nothing is tidied up on the way.
    """
    path, _, query = address.partition(b"?")
    parts = iter([*body, b""])
    got: list[Any] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in headers],
        "client": ("192.0.2.7", 50_000),
        "server": ("localhost", 443),
        "state": {},
        "extensions": {},
    }

    async def receive() -> Any:
        await asyncio.sleep(pause)
        part = next(parts, b"")
        return {"type": "http.request", "body": part, "more_body": part != b""}

    async def send(message: Any) -> None:
        got.append(message)

    await app(scope, receive, send)
    begun = got[0]
    return Answer(
        status=begun["status"],
        headers={
            name.decode("latin-1"): value.decode("latin-1") for name, value in begun["headers"]
        },
        body=b"".join(message.get("body", b"") for message in got[1:]),
    )
