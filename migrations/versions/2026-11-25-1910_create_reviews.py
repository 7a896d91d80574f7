"""Create review items and approvals, and remember why a job died.

What waits for a person already gets its item here, so that no open question is without one.
"""

import secrets
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from app import db
from app.ids import Ids

revision = "20261125c"
down_revision = "20261125b"
branch_labels = None
depends_on = None

_ID = db.id_column_type()
_JSON = db.json_column_type()


def upgrade() -> None:
    # Long because it is a list, a table after the other; nothing stands between them to be named.
    op.create_table(
        "reviews",
        sa.Column("id", _ID, nullable=False),
        sa.Column("merchant_id", _ID, nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("payment_id", _ID, nullable=False),
        sa.Column("attempt_id", _ID, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("stage", sa.String(length=8), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("reference", sa.String(length=255), nullable=True),
        sa.Column("why", sa.String(length=500), nullable=False),
        sa.Column("suggestion", sa.String(length=20), nullable=False),
        sa.Column("decision", sa.String(length=20), nullable=True),
        sa.Column("evidence", sa.String(length=255), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("decided_by", _ID, nullable=True),
        sa.Column("decided_name", sa.String(length=200), nullable=True),
        sa.Column("decided_at", db.Utc(), nullable=True),
        sa.Column("second_by", _ID, nullable=True),
        sa.Column("second_name", sa.String(length=200), nullable=True),
        sa.Column("second_at", db.Utc(), nullable=True),
        sa.Column("finding", sa.String(length=500), nullable=True),
        sa.Column("looked_at", db.Utc(), nullable=True),
        sa.Column("closed_how", sa.String(length=200), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("opened_at", db.Utc(), nullable=False),
        sa.Column("closed_at", db.Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["merchant_id", "livemode", "attempt_id"],
            ["attempts.merchant_id", "attempts.livemode", "attempts.id"],
            name=op.f("fk_reviews_merchant_id_livemode_attempt_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
    )
    op.create_index(
        "uq_reviews_open",
        "reviews",
        ["attempt_id", "kind"],
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
        sqlite_where=sa.text("state = 'open'"),
    )
    op.create_index("ix_reviews_attempt_id", "reviews", ["attempt_id"], unique=False)
    op.create_index("ix_reviews_payment_id", "reviews", ["payment_id"], unique=False)
    op.create_index("ix_reviews_state", "reviews", ["state", "id"], unique=False)
    op.create_table(
        "approvals",
        sa.Column("id", _ID, nullable=False),
        sa.Column("action", sa.String(length=10), nullable=False),
        sa.Column("job_ids", _JSON, nullable=False),
        sa.Column("sums", _JSON, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("asked_by", _ID, nullable=False),
        sa.Column("asked_name", sa.String(length=200), nullable=False),
        sa.Column("asked_at", db.Utc(), nullable=False),
        sa.Column("decided_by", _ID, nullable=True),
        sa.Column("decided_name", sa.String(length=200), nullable=True),
        sa.Column("decided_at", db.Utc(), nullable=True),
        sa.Column("outcome", sa.String(length=200), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvals")),
    )
    op.create_index("ix_approvals_state", "approvals", ["state", "id"], unique=False)
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("died_of", sa.String(length=200), nullable=True))
        jobs.create_index(
            "ix_jobs_died_of",
            ["kind", "died_of"],
            unique=False,
            postgresql_where=sa.text("died_of IS NOT NULL"),
            sqlite_where=sa.text("died_of IS NOT NULL"),
        )
    _open_what_waits()


def _open_what_waits() -> None:
    """Open an item for each attempt that a person has to look at already."""
    moment = datetime.now(UTC)
    ids = Ids(lambda: moment, secrets.token_bytes)
    bind = op.get_bind()
    found = bind.execute(
        sa.text(
            "SELECT id, merchant_id, livemode, payment_id, amount, currency, state, message, "
            "COALESCE(psp_reference, session_reference) FROM attempts "
            "WHERE state = 'needs_review' OR code = 'unexpected'"
        )
    ).all()
    columns = ("id", "kind", "state", "why", "suggestion", "merchant_id", "payment_id")
    columns += ("attempt_id", "currency", "reference")
    reviews = sa.table(
        "reviews",
        *(sa.column(name, sa.String) for name in columns),
        sa.column("livemode", sa.Boolean),
        sa.column("amount", sa.BigInteger),
        sa.column("version", sa.Integer),
        sa.column("opened_at", db.Utc()),
    )
    for row in found:
        compare = row[6] == "needs_review"
        op.execute(
            reviews.insert().values(
                id=ids("rev"),
                merchant_id=row[1],
                livemode=bool(row[2]),
                payment_id=row[3],
                attempt_id=row[0],
                kind="mismatch" if compare else "unexpected_receipt",
                state="open",
                amount=row[4],
                currency=row[5],
                reference=row[8],
                why=row[7] or "A person must compare our records with the PSP's.",
                suggestion="compare" if compare else "refund_at_psp",
                version=0,
                opened_at=moment,
            )
        )


def downgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_index("ix_jobs_died_of")
        jobs.drop_column("died_of")
    op.drop_index("ix_approvals_state", table_name="approvals")
    op.drop_table("approvals")
    op.drop_index("ix_reviews_state", table_name="reviews")
    op.drop_index("ix_reviews_payment_id", table_name="reviews")
    op.drop_index("ix_reviews_attempt_id", table_name="reviews")
    op.drop_index("uq_reviews_open", table_name="reviews")
    op.drop_table("reviews")
