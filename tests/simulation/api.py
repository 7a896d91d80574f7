"""The API as its clients meet it: the real handlers, over a network that loses things.

Left out is what has tests of its own: routing, reading the body, the key's check and its rate.
"""

import asyncio
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec

from app.errors import Problem
from app.inbox import operations as inbox
from app.merchants.keys import KeyIdentity
from app.psp.port import EventRefused
from web import errors
from web.api import payment_inputs, payments, refunds

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

_PATIENCE = 30.0  # Seconds that a client waits for an answer.
_CONNECTION = "conn_sandbox"


class NoAnswer(Exception):
    """The client cannot tell what became of its request."""


class Answer(msgspec.Struct, frozen=True):
    """An answer as it came over the wire."""

    status: int
    body: Any
    text: str
    replayed: bool


class _Headers:
    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def getall(self, name: str, default: list[str]) -> list[str]:
        return [self._values[name]] if name in self._values else default


class SimRequest:
    """What the handlers ask of a request."""

    def __init__(
        self,
        process: "Process",
        identity: KeyIdentity,
        method: str,
        path: str,
        sent: Any,
        key: str | None,
    ) -> None:
        self.method = method
        self.sent = sent
        self.headers = _Headers({} if key is None else {"idempotency-key": key})
        self.scope = {
            "path": path,
            "method": method,
            "query_string": b"",
            "user": identity,
            "client": ("192.0.2.1", 1),
            "state": {"request_id": "req_sim", "headers": {}},
        }
        hurried = process.__dict__.setdefault("hurried", {})
        self.app = SimpleNamespace(state=SimpleNamespace(rt=process.rt, hurried=hurried))
        self.query_params: dict[str, str] = {}


class Api:
    """Calls handlers in an API process."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._waiting: dict[asyncio.Future[Any], Process] = {}

    async def post(
        self, identity: KeyIdentity, path: str, sent: dict[str, Any], *, key: str | None
    ) -> Answer:
        """POST as a shop does. Raises NoAnswer."""
        return await self._request(identity, "POST", path, sent, key)

    async def get(self, identity: KeyIdentity, path: str) -> Answer:
        """GET as a shop does. Raises NoAnswer."""
        return await self._request(identity, "GET", path, {}, None)

    async def event(self, body: bytes, headers: dict[str, str]) -> int:
        """Receive an event as the PSP sends it; return the status. Raises NoAnswer."""

        async def work(process: "Process") -> int:
            rt = process.rt
            try:
                event = rt.psp(_CONNECTION).verify_event(body, headers, rt.clock())
            except EventRefused:
                return 400
            async with rt.sessions.begin() as session:
                await inbox.store(
                    session,
                    ids=rt.ids,
                    sealer=rt.sealer,
                    connection_id=_CONNECTION,
                    event=event,
                    body=body,
                    now=rt.clock(),
                )
            return 200

        status: int = await self.called(work)
        return status

    async def _request(
        self, identity: KeyIdentity, method: str, path: str, sent: dict[str, Any], key: str | None
    ) -> Answer:
        async def work(process: "Process") -> Answer:
            request = SimRequest(process, identity, method, path, sent, key)
            try:
                response = await _handle(request, path, sent)
            except Problem as problem:
                content = errors.body(request.scope, problem)
                return Answer(problem.status, json.loads(content), content.decode(), False)
            content = response.content
            replayed = response.headers.get("Idempotent-Replayed") == "true"
            return Answer(
                response.status_code or 200, json.loads(content), content.decode(), replayed
            )

        answer: Answer = await self.called(work)
        return answer

    @property
    def busy(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._waiting)

    async def called(self, work: Any) -> Any:
        """Do some work in an API process. Raises NoAnswer, and what `work` refuses."""
        world, hit = self._world, self._world.faults.hit
        await asyncio.sleep(world.travel())
        processes = world.living("api")
        if not processes or hit("api.request_lost"):
            raise NoAnswer("connection refused")
        process = world.random.choice(processes)
        reply: asyncio.Future[Any] = world.loop.create_future()
        self._waiting[reply] = process
        task = process.start(self._worked(process, work, reply))
        gone = hit("api.client_gone")
        try:
            async with asyncio.timeout(world.random.uniform(0, 0.1) if gone else _PATIENCE):
                answer = await reply
        except TimeoutError:
            # Who hangs up ends the work in the middle, as the server does it.
            task.cancel()
            raise NoAnswer("gave up") from None
        finally:
            self._waiting.pop(reply, None)
        await asyncio.sleep(world.travel())
        if hit("api.answer_lost"):
            raise NoAnswer("the answer was lost")
        return answer

    async def _worked(self, process: "Process", work: Any, reply: "asyncio.Future[Any]") -> None:
        try:
            answer = await work(process)
        except Problem as refusal:
            if not reply.done():
                reply.set_exception(refusal)
            return
        except Exception as error:  # noqa: BLE001 - the last line of a server: 500 or 503.
            outage = errors.is_outage(error)
            if not outage:
                self._world.broken("5xx", f"a defect answered: {error!r}")
            status = 503 if outage else 500
            answer = Answer(status, {"code": "unavailable"}, "", False)
        if not reply.done():
            reply.set_result(answer)

    def process_ended(self, process: "Process") -> None:
        """Reset the connections of a process that died."""
        for reply, whose in list(self._waiting.items()):
            if whose is process and not reply.done():
                reply.set_exception(NoAnswer("connection reset"))


async def _handle(request: Any, path: str, sent: dict[str, Any]) -> Any:
    """Find the handler of a path and call it with its body read."""
    parts = path.removeprefix("/v1/").split("/")
    if request.method == "GET":
        if parts[0] == "payments":
            return await payments.get_payment.fn(request, parts[1])
        return await refunds.get_refund.fn(request, parts[1])
    if parts == ["payments"]:
        read: Any = msgspec.convert(sent, payment_inputs.CreatePayment)
        return await payments.create_payment.fn(request, read)
    if parts == ["refunds"]:
        read = msgspec.convert(sent, refunds.CreateRefund)
        return await refunds.create_refund.fn(request, read)
    if parts[2] == "capture":
        read = msgspec.convert(sent, payment_inputs.CapturePayment)
        return await payments.capture_payment.fn(request, parts[1], read)
    read = msgspec.convert(sent, payment_inputs.CancelPayment)
    return await payments.cancel_payment.fn(request, parts[1], read)
