"""What the risk check said about a payment, in words; pure."""

from app.payments.models import Payment
from app.risk.models import RiskCheck
from app.timeline.schemas import Moment, Tone
from app.timeline.words import sentence

_SAYS: dict[str, tuple[str, Tone, str]] = {
    "allow": ("The risk check let it pass", "ok", "shield-check"),
    "hold": ("The risk check asks a person to look", "wait", "user-exclamation"),
    "refuse": ("The risk check refused it", "bad", "shield-x"),
}


def risk_moments(check: RiskCheck | None, payment: Payment) -> list[Moment]:
    """Tell the decision and why, and since when a held payment waits."""
    if check is None:
        return []
    title, tone, icon = _SAYS[check.decision]
    parts = [sentence(one.get("text")) for one in check.reasons]
    if check.failure is not None:
        parts.append(f"The provider counts as down: {sentence(check.failure)}")
    if check.score is not None:
        parts.append(f"Its score is {check.score:g} of 100.")
    if check.decision == "hold" and payment.hosted:
        parts.append("The PSP's page only holds the money.")
    out = [
        Moment(
            at=check.answered_at,
            kind="risk",
            title=f"{title}{' by its fallback rule' if check.fallback else ''}",
            who="Us" if check.provider == "rules" else "Risk provider",
            text=" ".join(part for part in parts if part),
            tone=tone,
            icon=icon,
            about=check.payment_id,
        )
    ]
    if check.held_at is not None and payment.hosted:
        out.append(
            Moment(
                at=check.held_at,
                kind="risk",
                title="It waits for a person",
                who="Us",
                text="The customer has agreed and the money is held. Nothing is taken before that.",
                tone="wait",
                icon="user-exclamation",
                about=check.payment_id,
            )
        )
    return out
