"""Every kind of job on one screen, and how wide each queue is."""

from app import mail
from app.deadletters import processing as letters
from app.desk import processing as desk
from app.inbox import processing as inbox
from app.janitor import processing as janitor
from app.ledger import processing as ledger
from app.ledger import writer
from app.payments import processing as payments
from app.payments import settling
from app.runtime import Runtime
from app.webhooks import processing as webhooks
from workers.runner import Known, Pump, Queue

JOBS = {
    "payments.open_checkout": Known(letters.looking_first(payments.open_checkout)),
    "payments.charge": Known(letters.looking_first(payments.charge)),
    "payments.capture": Known(letters.looking_first(payments.capture)),
    "payments.void": Known(letters.looking_first(payments.void)),
    "payments.expire": Known(letters.looking_first(payments.expire)),
    "payments.send_refund": Known(letters.looking_first(payments.send_refund)),
    "payments.refund_refused": Known(payments.refund_refused),
    "payments.fetch_fee": Known(settling.fetch_fee),
    "inbox.apply": Known(inbox.apply),
    "janitor.resolve": Known(janitor.resolve),
    "deadletters.look": Known(letters.look),
    "deadletters.carry_out": Known(letters.finish),
    "desk.settle": Known(desk.settle),
    "desk.look": Known(desk.look),
    "desk.once_more": Known(desk.once_more),
    "webhooks.deliver": Known(webhooks.deliver),
    "mail.send": Known(mail.send),
    writer.DEAD_LETTER: Known(ledger.retry_posting),
}
LEDGERS = ("test:0", "live:0")


def _write_ledgers(owner: str) -> Pump:
    async def pump(rt: Runtime) -> int:
        return await writer.write_batches(rt, ledger_ids=LEDGERS, owner=owner)

    return pump


def queues(owner: str, *, connections: int = 1) -> list[Queue]:
    """Return the queues; separate, so that no dead endpoint or noisy shop delays a charge.

    Where PSPs are asked, each of the `connections` has places of its own, so that a slow PSP
    delays nobody else's payments.
    """
    return [
        Queue("psp", 32 * connections, share=32),
        Queue("ledger", 4, _write_ledgers(owner)),
        Queue("inbox", 16 * connections, share=16),
        Queue("webhooks", 32, webhooks.fan_out),
        Queue("janitor", 8 * connections, share=8),
        Queue("mail", 2),
    ]
