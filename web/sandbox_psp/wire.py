"""The API on the wire: log, key, faults, idempotency, operation, commit, answer."""

import asyncio
import hashlib
import logging
import sqlite3
import time
from dataclasses import dataclass, field

import msgspec

from web.sandbox_psp import credentials, forms, kept, striking, transport
from web.sandbox_psp.config import API_VERSION
from web.sandbox_psp.delivery import Courier
from web.sandbox_psp.errors import ApiError
from web.sandbox_psp.faults import Fault, Stopped, from_header
from web.sandbox_psp.routes import Answer, perform, refusal, route
from web.sandbox_psp.striking import Cut
from web.sandbox_psp.work import Sandbox, Work, new_id

_BODY_LIMIT = 1_000_000
_SECRET_HEADERS = {"authorization", "cookie", "proxy-authorization"}


@dataclass(kw_only=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: str
    id: str = field(default_factory=lambda: new_id("req"))

    @property
    def key(self) -> str | None:
        """Return the idempotency key of a POST."""
        return self.headers.get("idempotency-key") if self.method == "POST" else None


class Wire:
    """Answers every request below /v1."""

    def __init__(self, sandbox: Sandbox, courier: Courier) -> None:
        self._sandbox = sandbox
        self._courier = courier
        self._keys_in_use: set[str] = set()

    async def __call__(
        self, scope: transport.Scope, receive: transport.Receive, send: transport.Send
    ) -> None:
        """Serve one request."""
        body = await transport.read_body(receive, limit=_BODY_LIMIT)
        if body is None:
            await transport.respond(send, 413, {"Connection": "close"}, b"")
            return
        request = Request(
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers={k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]},
            body=body.decode("utf-8", "replace"),
        )
        work = self._sandbox.work(request_id=request.id, key=request.key)
        try:
            log = self._log(request)
        except sqlite3.Error as error:
            await _give_up(error, scope, receive)
            return
        try:
            answer = await self._answer(request, work, receive)
            self._note(log, answer, work)
            await self._sandbox.book.durable()
            if all(fault.kind != "delay" for fault in work.faults):
                # The request is done. Only one that is still being worked on keeps its key.
                self._release(request, work)
            await self._transmit(answer, work, scope, receive, send)
        except Cut as fault:
            self._note(log, None, work)
            await self._sandbox.book.durable()
            await asyncio.sleep(fault.seconds)
            await transport.cut(scope, receive)
        except sqlite3.Error as error:
            await _give_up(error, scope, receive)
        finally:
            self._release(request, work)

    def _release(self, request: Request, work: Work) -> None:
        if work.holds_key and request.key is not None:
            self._keys_in_use.discard(request.key)
            work.holds_key = False

    # --- deciding the answer ------------------------------------------------------------------

    async def _answer(self, request: Request, work: Work, receive: transport.Receive) -> Answer:
        if self._sandbox.down:
            return await self._down(work, receive)
        try:
            authorization = request.headers.get("authorization", "")
            credentials.check(self._sandbox, authorization, work.now)
            fault = self._chosen(request)
            if fault is not None:
                work.faults.append(fault)
            if fault is not None and fault.when == "before":
                stopped = await striking.before(fault, work)
                if stopped is not None:
                    return stopped
                work.now = time.time()
            return self._perform(request, work)
        except ApiError as refused:
            return refusal(refused, request.id)
        except Stopped as stop:
            work.faults.append(stop.fault)
            self._sandbox.book.count(stop.subject)
            answer = await striking.before(stop.fault, work)
            return answer or refusal(striking.broken(500), work.request_id)

    def _perform(self, request: Request, work: Work) -> Answer:
        handler, object_id = route(request.method, request.path)
        tree = forms.parse(request.query if request.method == "GET" else request.body)
        mark = kept.fingerprint(request.method, request.path, tree)
        if request.key is not None:
            replay = self._claim(work, request.key, mark)
            if replay is not None:
                return replay
        striking.hold_webhooks(work)
        with self._sandbox.book.watching() as touched:
            answer = perform(work, handler, forms.Params(tree), object_id)
        if answer.status in {200, 402}:
            work.effect = touched
        answer = striking.answer(work, answer)
        if request.key is not None and answer.stored:
            kept.keep(work, request.key, mark, answer)
        return answer

    async def _down(self, work: Work, receive: transport.Receive) -> Answer:
        mode = self._sandbox.settings.down_mode
        work.faults.append(Fault(when="before", kind="status", status=503))
        if mode == "drop":
            raise Cut(0.0)
        if mode == "hang":
            await self._sandbox.book.durable()
            while (await receive())["type"] != "http.disconnect":
                pass
            raise Cut(0.0)
        return refusal(striking.broken(503), work.request_id)

    def _chosen(self, request: Request) -> Fault | None:
        """Return the fault of a header, else of a script, else of the policy."""
        text = request.headers.get("x-sandbox-fault")
        if text is not None:
            return from_header(text)
        scripted = self._sandbox.scripts.take(request.method, request.path)
        if scripted is None and self._sandbox.policy is not None:
            return self._sandbox.policy.fault(request.method, request.path)
        return scripted

    def _claim(self, work: Work, key: str, mark: str) -> Answer | None:
        if key in self._keys_in_use:
            raise kept.in_use(key)
        replay = kept.find(work, key, mark)
        if replay is None:
            self._keys_in_use.add(key)
            work.holds_key = True
        return replay

    # --- sending it ---------------------------------------------------------------------------

    async def _transmit(
        self,
        answer: Answer,
        work: Work,
        scope: transport.Scope,
        receive: transport.Receive,
        send: transport.Send,
    ) -> None:
        self._courier.wake()
        if work.waits_for_webhooks:
            await self._courier.first_tries(work.emitted)
        headers = {
            "Content-Type": "application/json",
            "Request-Id": work.request_id or "",
            "Stripe-Version": API_VERSION,
            **answer.headers,
        }
        if work.key is not None:
            headers["Idempotency-Key"] = work.key
        body = msgspec.json.encode(answer.body)
        await striking.transmit(
            work, answer.status, headers, body, scope=scope, receive=receive, send=send
        )

    # --- the log ------------------------------------------------------------------------------

    def _log(self, request: Request) -> int:
        headers = {k: v for k, v in request.headers.items() if k not in _SECRET_HEADERS}
        row = self._sandbox.book.execute(
            "INSERT INTO requests "
            "(request_id, at, method, path, query, headers, body, key, body_hash) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (
                request.id,
                time.time(),
                request.method,
                request.path,
                request.query,
                msgspec.json.encode(headers),
                request.body,
                request.headers.get("idempotency-key"),
                hashlib.sha256(request.body.encode()).hexdigest(),
            ),
        ).fetchone()
        return int(row[0])

    def _note(self, log: int, answer: Answer | None, work: Work) -> None:
        names = " ".join(fault.name for fault in work.faults)
        replayed = answer is not None and "Idempotent-Replayed" in answer.headers
        status = None if answer is None else _status_sent(answer, work)
        self._sandbox.book.execute(
            "UPDATE requests SET status = ?, answered = ?, replayed = ?, fault = ?, effect = ? "
            "WHERE id = ?",
            (
                status,
                time.time(),
                replayed,
                names or None,
                msgspec.json.encode(work.effect).decode(),
                log,
            ),
        )


def _status_sent(answer: Answer, work: Work) -> int:
    return 200 if any(fault.kind == "html" for fault in work.faults) else answer.status


async def _give_up(
    error: sqlite3.Error, scope: transport.Scope, receive: transport.Receive
) -> None:
    """Say nothing: when the book cannot be written, no answer would be true."""
    logging.getLogger(__name__).error("the book cannot be written: %s", error)
    await transport.cut(scope, receive)
