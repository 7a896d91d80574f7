"""The named rule for a provider that is down: small amounts pass, larger ones are held; pure."""

from app import money
from app.risk.port import Answer, Question, Reason
from app.risk.rules import Terms

RULE = "small_amounts_pass"


def decide(question: Question, terms: Terms) -> Answer:
    """Return what happens to a payment whose risk nobody could judge."""
    most = terms.of(question.currency).pass_up_to
    text = money.text(most, question.currency)
    if question.amount <= most:
        says = f"The risk check did not answer. Payments up to {text} pass then."
        return Answer(decision="allow", reasons=(Reason("provider_down", says),))
    says = f"The risk check did not answer. Payments above {text} wait for a person then."
    return Answer(decision="hold", reasons=(Reason("provider_down", says),))
