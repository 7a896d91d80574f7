"""Create the first tables."""

import sqlalchemy as sa
from alembic import op
from app import db

revision = "20261122a"
down_revision = None
branch_labels = None
depends_on = None

_ID = db.id_column_type()
_JSON = db.json_column_type()


def upgrade() -> None:
    # Long because it is a list, a table after the other; nothing stands between them to be named.
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(length=160), nullable=False),
        sa.Column("ledger_id", sa.String(length=20), nullable=False),
        sa.Column("kind", sa.String(length=30), nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("merchant_id", _ID, nullable=True),
        sa.Column("owner", sa.String(length=80), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("balance", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
    )
    op.create_index(
        "ix_accounts_merchant_id", "accounts", ["merchant_id", "livemode"], unique=False
    )
    op.create_table(
        "audit_rows",
        sa.Column("id", _ID, nullable=False),
        sa.Column("merchant_id", _ID, nullable=True),
        sa.Column("livemode", sa.Boolean(), nullable=True),
        sa.Column("actor_kind", sa.String(length=10), nullable=False),
        sa.Column("actor_id", _ID, nullable=True),
        sa.Column("actor_name", sa.String(length=200), nullable=False),
        sa.Column("action", sa.String(length=60), nullable=False),
        sa.Column("object_id", _ID, nullable=True),
        sa.Column("before", _JSON, nullable=True),
        sa.Column("after", _JSON, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("address", sa.String(length=60), nullable=True),
        sa.Column("session_id", _ID, nullable=True),
        sa.Column("request_id", sa.String(length=80), nullable=True),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_rows")),
    )
    op.create_index(
        "ix_audit_rows_merchant_id", "audit_rows", ["merchant_id", "livemode", "id"], unique=False
    )
    op.create_index("ix_audit_rows_object_id", "audit_rows", ["object_id"], unique=False)
    op.create_table(
        "entries",
        sa.Column("ledger_id", sa.String(length=20), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("posting_id", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.String(length=160), nullable=False),
        sa.Column("debit", sa.BigInteger(), nullable=False),
        sa.Column("credit", sa.BigInteger(), nullable=False),
        sa.Column("before", sa.BigInteger(), nullable=False),
        sa.Column("after", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(debit > 0 AND credit = 0) OR (credit > 0 AND debit = 0)",
            name=op.f("ck_entries_one_side"),
        ),
        sa.PrimaryKeyConstraint("ledger_id", "seq", name=op.f("pk_entries")),
    )
    op.create_index("ix_entries_account_id", "entries", ["account_id", "seq"], unique=False)
    op.create_index("ix_entries_posting_id", "entries", ["posting_id"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", _ID, nullable=False),
        sa.Column("merchant_id", _ID, nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("type", sa.String(length=60), nullable=False),
        sa.Column("payment_id", _ID, nullable=True),
        sa.Column("refund_id", _ID, nullable=True),
        sa.Column("sequence", sa.Integer(), nullable=True),
        sa.Column("body_sealed", sa.Text(), nullable=False),
        sa.Column("endpoint_id", _ID, nullable=True),
        sa.Column("fanned_out", sa.Boolean(), nullable=False),
        sa.Column("api_version", sa.String(length=12), nullable=False),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint(
            "merchant_id", "livemode", "id", name=op.f("uq_events_merchant_id_livemode_id")
        ),
        sa.UniqueConstraint("payment_id", "sequence", name=op.f("uq_events_payment_id_sequence")),
    )
    op.create_index(
        "ix_events_not_fanned_out",
        "events",
        ["id"],
        unique=False,
        postgresql_where=sa.text("fanned_out = false"),
        sqlite_where=sa.text("fanned_out = 0"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("scope", sa.String(length=60), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("fingerprint_rule", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("resource_id", _ID, nullable=True),
        sa.Column("refusal", sa.Text(), nullable=True),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "key_hash", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(
        "ix_idempotency_keys_created_at",
        "idempotency_keys",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("status IS NOT NULL"),
        sqlite_where=sa.text("status IS NOT NULL"),
    )
    op.create_index(
        "ix_idempotency_keys_resource_id", "idempotency_keys", ["resource_id"], unique=False
    )
    op.create_table(
        "installation",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_installation")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", _ID, nullable=False),
        sa.Column("kind", sa.String(length=60), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("args", _JSON, nullable=False),
        sa.Column("queue", sa.String(length=20), nullable=False),
        sa.Column("fair_key", sa.String(length=80), nullable=False),
        sa.Column("merchant_id", _ID, nullable=True),
        sa.Column("livemode", sa.Boolean(), nullable=True),
        sa.Column("payment_id", _ID, nullable=True),
        sa.Column("unique_key", sa.String(length=160), nullable=True),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("run_at", db.Utc(), nullable=False),
        sa.Column("owner", sa.String(length=80), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("history", _JSON, nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.Column("finished_at", db.Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(
        "ix_jobs_dead",
        "jobs",
        ["id"],
        unique=False,
        postgresql_where=sa.text("state = 'dead'"),
        sqlite_where=sa.text("state = 'dead'"),
    )
    op.create_index(
        "ix_jobs_due",
        "jobs",
        ["queue", "fair_key", "run_at"],
        unique=False,
        postgresql_where=sa.text("state = 'due'"),
        sqlite_where=sa.text("state = 'due'"),
    )
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"], unique=False)
    op.create_index("ix_jobs_payment_id", "jobs", ["payment_id"], unique=False)
    op.create_index(
        "uq_jobs_unique_key_due",
        "jobs",
        ["unique_key"],
        unique=True,
        postgresql_where=sa.text("state = 'due'"),
        sqlite_where=sa.text("state = 'due'"),
    )
    op.create_table(
        "ledgers",
        sa.Column("id", sa.String(length=20), nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(length=80), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", db.Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledgers")),
    )
    op.create_table(
        "merchants",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("fee_basis_points", sa.Integer(), nullable=False),
        sa.Column("fee_fixed", sa.BigInteger(), nullable=False),
        sa.Column("fee_return", sa.Boolean(), nullable=False),
        sa.Column("settle_delay_seconds", sa.Integer(), nullable=False),
        sa.Column("overdraft_limit", sa.BigInteger(), nullable=False),
        sa.Column("step_up_limit", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", db.Utc(), nullable=True),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.Column("updated_at", db.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_merchants")),
    )
    op.create_table(
        "payments",
        sa.Column("id", _ID, nullable=False),
        sa.Column("merchant_id", _ID, nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("connection_id", _ID, nullable=False),
        sa.Column("psp", sa.String(length=20), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("status_reason", sa.String(length=40), nullable=True),
        sa.Column("hosted", sa.Boolean(), nullable=False),
        sa.Column("capture_method", sa.String(length=10), nullable=False),
        sa.Column("amount_captured", sa.BigInteger(), nullable=False),
        sa.Column("amount_refunded", sa.BigInteger(), nullable=False),
        sa.Column("amount_pending", sa.BigInteger(), nullable=False),
        sa.Column("fee", sa.BigInteger(), nullable=False),
        sa.Column("fee_returned", sa.BigInteger(), nullable=False),
        sa.Column("reference", sa.String(length=200), nullable=True),
        sa.Column("description", sa.String(length=500), nullable=True),
        sa.Column("return_url", sa.Text(), nullable=True),
        sa.Column("cancel_url", sa.Text(), nullable=True),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("payment_method", sa.String(length=120), nullable=True),
        sa.Column("method", sa.String(length=60), nullable=True),
        sa.Column("psp_reference", sa.String(length=255), nullable=True),
        sa.Column("failure_code", sa.String(length=60), nullable=True),
        sa.Column("failure_decline_code", sa.String(length=60), nullable=True),
        sa.Column("failure_message", sa.String(length=500), nullable=True),
        sa.Column("cancel_requested_at", db.Utc(), nullable=True),
        sa.Column("expires_at", db.Utc(), nullable=True),
        sa.Column("captured_at", db.Utc(), nullable=True),
        sa.Column("available_on", db.Utc(), nullable=True),
        sa.Column("settled_at", db.Utc(), nullable=True),
        sa.Column("finished_at", db.Utc(), nullable=True),
        sa.Column("event_sequence", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(length=80), nullable=True),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.Column("updated_at", db.Utc(), nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_payments_amount_positive")),
        sa.CheckConstraint(
            "amount_captured >= 0 AND amount_captured <= amount",
            name=op.f("ck_payments_captured_in_amount"),
        ),
        sa.CheckConstraint("amount_pending >= 0", name=op.f("ck_payments_pending_not_negative")),
        sa.CheckConstraint(
            "amount_refunded >= 0 AND amount_refunded <= amount_captured",
            name=op.f("ck_payments_refunded_in_captured"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payments")),
        sa.UniqueConstraint(
            "merchant_id", "livemode", "id", name=op.f("uq_payments_merchant_id_livemode_id")
        ),
    )
    op.create_index(
        "ix_payments_available_on",
        "payments",
        ["available_on"],
        unique=False,
        postgresql_where=sa.text("settled_at IS NULL AND available_on IS NOT NULL"),
        sqlite_where=sa.text("settled_at IS NULL AND available_on IS NOT NULL"),
    )
    op.create_index("ix_payments_psp_reference", "payments", ["psp_reference"], unique=False)
    op.create_index(
        "uq_payments_reference",
        "payments",
        ["merchant_id", "livemode", "reference"],
        unique=True,
        postgresql_where=sa.text("status NOT IN ('failed', 'canceled', 'expired')"),
        sqlite_where=sa.text("status NOT IN ('failed', 'canceled', 'expired')"),
    )
    op.create_table(
        "postings",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("ledger_id", sa.String(length=20), nullable=False),
        sa.Column("key", sa.String(length=160), nullable=False),
        sa.Column("kind", sa.String(length=30), nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("merchant_id", _ID, nullable=True),
        sa.Column("payment_id", _ID, nullable=True),
        sa.Column("refund_id", _ID, nullable=True),
        sa.Column("transfers", _JSON, nullable=False),
        sa.Column("guard", _JSON, nullable=True),
        sa.Column("answer_job", _JSON, nullable=True),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.Column("answered_at", db.Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_postings")),
        sa.UniqueConstraint("key", name=op.f("uq_postings_key")),
    )
    op.create_index(
        "ix_postings_merchant_waiting",
        "postings",
        ["merchant_id", "livemode"],
        unique=False,
        postgresql_where=sa.text("status = 'waiting'"),
        sqlite_where=sa.text("status = 'waiting'"),
    )
    op.create_index("ix_postings_payment_id", "postings", ["payment_id"], unique=False)
    op.create_index(
        "ix_postings_waiting",
        "postings",
        ["ledger_id", "id"],
        unique=False,
        postgresql_where=sa.text("status = 'waiting'"),
        sqlite_where=sa.text("status = 'waiting'"),
    )
    op.create_table(
        "psp_connections",
        sa.Column("id", _ID, nullable=False),
        sa.Column("psp", sa.String(length=20), nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("merchant_id", _ID, nullable=True),
        sa.Column("secrets_sealed", sa.Text(), nullable=True),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_psp_connections")),
    )
    op.create_table(
        "psp_events",
        sa.Column("id", _ID, nullable=False),
        sa.Column("connection_id", _ID, nullable=False),
        sa.Column("psp_event_id", sa.String(length=255), nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("type", sa.String(length=80), nullable=False),
        sa.Column("about", sa.String(length=12), nullable=False),
        sa.Column("psp_reference", sa.String(length=255), nullable=True),
        sa.Column("object_reference", sa.String(length=255), nullable=True),
        sa.Column("attempt_id", sa.String(length=255), nullable=True),
        sa.Column("installation", sa.String(length=255), nullable=True),
        sa.Column("merchant_id", _ID, nullable=True),
        sa.Column("payment_id", _ID, nullable=True),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("note", sa.String(length=500), nullable=True),
        sa.Column("body_sealed", sa.Text(), nullable=True),
        sa.Column("psp_created_at", db.Utc(), nullable=False),
        sa.Column("received_at", db.Utc(), nullable=False),
        sa.Column("applied_at", db.Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_psp_events")),
        sa.UniqueConstraint(
            "connection_id", "psp_event_id", name=op.f("uq_psp_events_connection_id_psp_event_id")
        ),
    )
    op.create_index(
        "ix_psp_events_open",
        "psp_events",
        ["received_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('received', 'parked')"),
        sqlite_where=sa.text("state IN ('received', 'parked')"),
    )
    op.create_index("ix_psp_events_payment_id", "psp_events", ["payment_id"], unique=False)
    op.create_index("ix_psp_events_received_at", "psp_events", ["received_at"], unique=False)
    op.create_table(
        "throttles",
        sa.Column("scope", sa.String(length=100), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("window_started_at", db.Utc(), nullable=False),
        sa.Column("locked_until", db.Utc(), nullable=True),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_throttles")),
    )
    op.create_table(
        "users",
        sa.Column("id", _ID, nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=True),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("is_demo", sa.Boolean(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("password_changed_at", db.Utc(), nullable=True),
        sa.Column("totp_sealed", sa.Text(), nullable=True),
        sa.Column("totp_pending_sealed", sa.Text(), nullable=True),
        sa.Column("totp_last_step", sa.Integer(), nullable=False),
        sa.Column("totp_enrolled_at", db.Utc(), nullable=True),
        sa.Column("totp_failures", sa.Integer(), nullable=False),
        sa.Column("password_failures", sa.Integer(), nullable=False),
        sa.Column("last_failure_at", db.Utc(), nullable=True),
        sa.Column("locked_until", db.Utc(), nullable=True),
        sa.Column("disabled_at", db.Utc(), nullable=True),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
    )
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", _ID, nullable=False),
        sa.Column("merchant_id", _ID, nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.String(length=200), nullable=True),
        sa.Column("event_types", _JSON, nullable=False),
        sa.Column("secret_sealed", sa.Text(), nullable=False),
        sa.Column("old_secret_sealed", sa.Text(), nullable=True),
        sa.Column("old_secret_until", db.Utc(), nullable=True),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("status_reason", sa.String(length=200), nullable=True),
        sa.Column("failing_since", db.Utc(), nullable=True),
        sa.Column("api_version", sa.String(length=12), nullable=False),
        sa.Column("deleted_at", db.Utc(), nullable=True),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.Column("updated_at", db.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
        sa.UniqueConstraint(
            "merchant_id",
            "livemode",
            "id",
            name=op.f("uq_webhook_endpoints_merchant_id_livemode_id"),
        ),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", _ID, nullable=False),
        sa.Column("merchant_id", _ID, nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("hint", sa.String(length=24), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("scopes", _JSON, nullable=False),
        sa.Column("api_version", sa.String(length=12), nullable=False),
        sa.Column("expires_at", db.Utc(), nullable=True),
        sa.Column("revoked_at", db.Utc(), nullable=True),
        sa.Column("last_used_at", db.Utc(), nullable=True),
        sa.Column("replaces_id", _ID, nullable=True),
        sa.Column("created_by", _ID, nullable=True),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id"], ["merchants.id"], name=op.f("fk_api_keys_merchant_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("hash", name=op.f("uq_api_keys_hash")),
    )
    op.create_index(
        "ix_api_keys_merchant_id", "api_keys", ["merchant_id", "livemode"], unique=False
    )
    op.create_table(
        "attempts",
        sa.Column("id", _ID, nullable=False),
        sa.Column("merchant_id", _ID, nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("payment_id", _ID, nullable=False),
        sa.Column("refund_id", _ID, nullable=True),
        sa.Column("connection_id", _ID, nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("state", sa.String(length=14), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("params_sealed", sa.Text(), nullable=False),
        sa.Column("step", sa.String(length=20), nullable=True),
        sa.Column("psp_reference", sa.String(length=255), nullable=True),
        sa.Column("session_reference", sa.String(length=255), nullable=True),
        sa.Column("page_url", sa.Text(), nullable=True),
        sa.Column("page_expires_at", db.Utc(), nullable=True),
        sa.Column("first_sent_at", db.Utc(), nullable=True),
        sa.Column("next_check_at", db.Utc(), nullable=True),
        sa.Column("checks", sa.Integer(), nullable=False),
        sa.Column("misses", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(length=60), nullable=True),
        sa.Column("decline_code", sa.String(length=60), nullable=True),
        sa.Column("message", sa.String(length=500), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("finished_at", db.Utc(), nullable=True),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.Column("updated_at", db.Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id", "livemode", "payment_id"],
            ["payments.merchant_id", "payments.livemode", "payments.id"],
            name=op.f("fk_attempts_merchant_id_livemode_payment_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        sa.UniqueConstraint(
            "merchant_id", "livemode", "id", name=op.f("uq_attempts_merchant_id_livemode_id")
        ),
    )
    op.create_index(
        "ix_attempts_next_check_at",
        "attempts",
        ["next_check_at"],
        unique=False,
        postgresql_where=sa.text("next_check_at IS NOT NULL"),
        sqlite_where=sa.text("next_check_at IS NOT NULL"),
    )
    op.create_index("ix_attempts_payment_id", "attempts", ["payment_id"], unique=False)
    op.create_index("ix_attempts_psp_reference", "attempts", ["psp_reference"], unique=False)
    op.create_index("ix_attempts_refund_id", "attempts", ["refund_id"], unique=False)
    op.create_index(
        "ix_attempts_session_reference", "attempts", ["session_reference"], unique=False
    )
    op.create_index(
        "uq_attempts_checkout",
        "attempts",
        ["payment_id"],
        unique=True,
        postgresql_where=sa.text(
            "kind = 'checkout' AND state IN ('created', 'sent', 'open', 'unknown')"
        ),
        sqlite_where=sa.text(
            "kind = 'checkout' AND state IN ('created', 'sent', 'open', 'unknown')"
        ),
    )
    op.create_index(
        "uq_attempts_lane",
        "attempts",
        ["payment_id"],
        unique=True,
        postgresql_where=sa.text(
            "kind IN ('charge', 'capture', 'void') AND state IN ('created', 'sent', 'unknown')"
        ),
        sqlite_where=sa.text(
            "kind IN ('charge', 'capture', 'void') AND state IN ('created', 'sent', 'unknown')"
        ),
    )
    op.create_table(
        "customers_of_payments",
        sa.Column("payment_id", _ID, nullable=False),
        sa.Column("merchant_id", _ID, nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("data_key_sealed", sa.Text(), nullable=False),
        sa.Column("email_sealed", sa.Text(), nullable=True),
        sa.Column("name_sealed", sa.Text(), nullable=True),
        sa.Column("email_hash", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["merchant_id", "livemode", "payment_id"],
            ["payments.merchant_id", "payments.livemode", "payments.id"],
            name=op.f("fk_customers_of_payments_merchant_id_livemode_payment_id"),
        ),
        sa.PrimaryKeyConstraint("payment_id", name=op.f("pk_customers_of_payments")),
    )
    op.create_index(
        "ix_customers_of_payments_email_hash",
        "customers_of_payments",
        ["merchant_id", "livemode", "email_hash"],
        unique=False,
    )
    op.create_table(
        "deliveries",
        sa.Column("id", _ID, nullable=False),
        sa.Column("merchant_id", _ID, nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("endpoint_id", _ID, nullable=False),
        sa.Column("event_id", _ID, nullable=False),
        sa.Column("payment_id", _ID, nullable=True),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("log", _JSON, nullable=False),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.String(length=300), nullable=True),
        sa.Column("answer_sealed", sa.Text(), nullable=True),
        sa.Column("next_try_at", db.Utc(), nullable=True),
        sa.Column("delivered_at", db.Utc(), nullable=True),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id", "livemode", "endpoint_id"],
            ["webhook_endpoints.merchant_id", "webhook_endpoints.livemode", "webhook_endpoints.id"],
            name=op.f("fk_deliveries_merchant_id_livemode_endpoint_id"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "livemode", "event_id"],
            ["events.merchant_id", "events.livemode", "events.id"],
            name=op.f("fk_deliveries_merchant_id_livemode_event_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint(
            "endpoint_id", "event_id", name=op.f("uq_deliveries_endpoint_id_event_id")
        ),
    )
    op.create_index("ix_deliveries_endpoint_id", "deliveries", ["endpoint_id", "id"], unique=False)
    op.create_index("ix_deliveries_event_id", "deliveries", ["event_id"], unique=False)
    op.create_index("ix_deliveries_payment_id", "deliveries", ["payment_id"], unique=False)
    op.create_table(
        "memberships",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("merchant_id", _ID, nullable=False),
        sa.Column("role", sa.String(length=10), nullable=False),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id"], ["merchants.id"], name=op.f("fk_memberships_merchant_id")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_memberships_user_id")),
        sa.PrimaryKeyConstraint("user_id", "merchant_id", name=op.f("pk_memberships")),
    )
    op.create_index("ix_memberships_merchant_id", "memberships", ["merchant_id"], unique=False)
    op.create_table(
        "one_time_links",
        sa.Column("id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("purpose", sa.String(length=10), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("expires_at", db.Utc(), nullable=False),
        sa.Column("used_at", db.Utc(), nullable=True),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_one_time_links_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_one_time_links")),
        sa.UniqueConstraint("hash", name=op.f("uq_one_time_links_hash")),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("used_at", db.Utc(), nullable=True),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_recovery_codes_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recovery_codes")),
        sa.UniqueConstraint("hash", name=op.f("uq_recovery_codes_hash")),
    )
    op.create_index("ix_recovery_codes_user_id", "recovery_codes", ["user_id"], unique=False)
    op.create_table(
        "refunds",
        sa.Column("id", _ID, nullable=False),
        sa.Column("merchant_id", _ID, nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("payment_id", _ID, nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("source", sa.String(length=12), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=True),
        sa.Column("fee_share", sa.BigInteger(), nullable=False),
        sa.Column("from_pending", sa.BigInteger(), nullable=False),
        sa.Column("from_available", sa.BigInteger(), nullable=False),
        sa.Column("psp_reference", sa.String(length=255), nullable=True),
        sa.Column("failure_code", sa.String(length=60), nullable=True),
        sa.Column("failure_message", sa.String(length=500), nullable=True),
        sa.Column("status_reason", sa.String(length=40), nullable=True),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("finished_at", db.Utc(), nullable=True),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.Column("updated_at", db.Utc(), nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_refunds_amount_positive")),
        sa.CheckConstraint(
            "from_pending >= 0 AND from_available >= 0 AND fee_share >= 0",
            name=op.f("ck_refunds_parts"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "livemode", "payment_id"],
            ["payments.merchant_id", "payments.livemode", "payments.id"],
            name=op.f("fk_refunds_merchant_id_livemode_payment_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refunds")),
        sa.UniqueConstraint(
            "merchant_id", "livemode", "id", name=op.f("uq_refunds_merchant_id_livemode_id")
        ),
    )
    op.create_index("ix_refunds_payment_id", "refunds", ["payment_id"], unique=False)
    op.create_index("uq_refunds_psp_reference", "refunds", ["psp_reference"], unique=True)
    op.create_table(
        "sessions",
        sa.Column("id", _ID, nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("stage", sa.String(length=10), nullable=False),
        sa.Column("csrf_token", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=60), nullable=True),
        sa.Column("agent", sa.String(length=200), nullable=True),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.Column("last_seen_at", db.Utc(), nullable=False),
        sa.Column("confirmed_at", db.Utc(), nullable=True),
        sa.Column("ended_at", db.Utc(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sessions_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_sessions_token_hash")),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"], unique=False)
    op.create_table(
        "psp_calls",
        sa.Column("id", _ID, nullable=False),
        sa.Column("merchant_id", _ID, nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("payment_id", _ID, nullable=False),
        sa.Column("attempt_id", _ID, nullable=False),
        sa.Column("connection_id", _ID, nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("step", sa.String(length=20), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=True),
        sa.Column("params_hash", sa.String(length=64), nullable=True),
        sa.Column("started_at", db.Utc(), nullable=False),
        sa.Column("finished_at", db.Utc(), nullable=True),
        sa.Column("outcome", sa.String(length=12), nullable=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("duration_us", sa.BigInteger(), nullable=True),
        sa.Column("psp_request_id", sa.String(length=80), nullable=True),
        sa.Column("detail", sa.String(length=500), nullable=True),
        sa.Column("answer_sealed", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["merchant_id", "livemode", "attempt_id"],
            ["attempts.merchant_id", "attempts.livemode", "attempts.id"],
            name=op.f("fk_psp_calls_merchant_id_livemode_attempt_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_psp_calls")),
    )
    op.create_index("ix_psp_calls_attempt_id", "psp_calls", ["attempt_id"], unique=False)
    op.create_index("ix_psp_calls_payment_id", "psp_calls", ["payment_id"], unique=False)
    op.create_index("ix_psp_calls_started_at", "psp_calls", ["started_at"], unique=False)


def downgrade() -> None:
    # Long because it is a list, a table after the other; nothing stands between them to be named.
    op.drop_index("ix_psp_calls_started_at", table_name="psp_calls")
    op.drop_index("ix_psp_calls_payment_id", table_name="psp_calls")
    op.drop_index("ix_psp_calls_attempt_id", table_name="psp_calls")
    op.drop_table("psp_calls")
    op.drop_index("ix_sessions_user_id", table_name="sessions")
    op.drop_table("sessions")
    op.drop_index("uq_refunds_psp_reference", table_name="refunds")
    op.drop_index("ix_refunds_payment_id", table_name="refunds")
    op.drop_table("refunds")
    op.drop_index("ix_recovery_codes_user_id", table_name="recovery_codes")
    op.drop_table("recovery_codes")
    op.drop_table("one_time_links")
    op.drop_index("ix_memberships_merchant_id", table_name="memberships")
    op.drop_table("memberships")
    op.drop_index("ix_deliveries_payment_id", table_name="deliveries")
    op.drop_index("ix_deliveries_event_id", table_name="deliveries")
    op.drop_index("ix_deliveries_endpoint_id", table_name="deliveries")
    op.drop_table("deliveries")
    op.drop_index("ix_customers_of_payments_email_hash", table_name="customers_of_payments")
    op.drop_table("customers_of_payments")
    op.drop_index(
        "uq_attempts_lane",
        table_name="attempts",
        postgresql_where=sa.text(
            "kind IN ('charge', 'capture', 'void') AND state IN ('created', 'sent', 'unknown')"
        ),
        sqlite_where=sa.text(
            "kind IN ('charge', 'capture', 'void') AND state IN ('created', 'sent', 'unknown')"
        ),
    )
    op.drop_index(
        "uq_attempts_checkout",
        table_name="attempts",
        postgresql_where=sa.text(
            "kind = 'checkout' AND state IN ('created', 'sent', 'open', 'unknown')"
        ),
        sqlite_where=sa.text(
            "kind = 'checkout' AND state IN ('created', 'sent', 'open', 'unknown')"
        ),
    )
    op.drop_index("ix_attempts_session_reference", table_name="attempts")
    op.drop_index("ix_attempts_refund_id", table_name="attempts")
    op.drop_index("ix_attempts_psp_reference", table_name="attempts")
    op.drop_index("ix_attempts_payment_id", table_name="attempts")
    op.drop_index(
        "ix_attempts_next_check_at",
        table_name="attempts",
        postgresql_where=sa.text("next_check_at IS NOT NULL"),
        sqlite_where=sa.text("next_check_at IS NOT NULL"),
    )
    op.drop_table("attempts")
    op.drop_index("ix_api_keys_merchant_id", table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_table("webhook_endpoints")
    op.drop_table("users")
    op.drop_table("throttles")
    op.drop_index("ix_psp_events_received_at", table_name="psp_events")
    op.drop_index("ix_psp_events_payment_id", table_name="psp_events")
    op.drop_index(
        "ix_psp_events_open",
        table_name="psp_events",
        postgresql_where=sa.text("state IN ('received', 'parked')"),
        sqlite_where=sa.text("state IN ('received', 'parked')"),
    )
    op.drop_table("psp_events")
    op.drop_table("psp_connections")
    op.drop_index(
        "ix_postings_waiting",
        table_name="postings",
        postgresql_where=sa.text("status = 'waiting'"),
        sqlite_where=sa.text("status = 'waiting'"),
    )
    op.drop_index("ix_postings_payment_id", table_name="postings")
    op.drop_index(
        "ix_postings_merchant_waiting",
        table_name="postings",
        postgresql_where=sa.text("status = 'waiting'"),
        sqlite_where=sa.text("status = 'waiting'"),
    )
    op.drop_table("postings")
    op.drop_index(
        "uq_payments_reference",
        table_name="payments",
        postgresql_where=sa.text("status NOT IN ('failed', 'canceled', 'expired')"),
        sqlite_where=sa.text("status NOT IN ('failed', 'canceled', 'expired')"),
    )
    op.drop_index("ix_payments_psp_reference", table_name="payments")
    op.drop_index(
        "ix_payments_available_on",
        table_name="payments",
        postgresql_where=sa.text("settled_at IS NULL AND available_on IS NOT NULL"),
        sqlite_where=sa.text("settled_at IS NULL AND available_on IS NOT NULL"),
    )
    op.drop_table("payments")
    op.drop_table("merchants")
    op.drop_table("ledgers")
    op.drop_index(
        "uq_jobs_unique_key_due",
        table_name="jobs",
        postgresql_where=sa.text("state = 'due'"),
        sqlite_where=sa.text("state = 'due'"),
    )
    op.drop_index("ix_jobs_payment_id", table_name="jobs")
    op.drop_index("ix_jobs_finished_at", table_name="jobs")
    op.drop_index(
        "ix_jobs_due",
        table_name="jobs",
        postgresql_where=sa.text("state = 'due'"),
        sqlite_where=sa.text("state = 'due'"),
    )
    op.drop_index(
        "ix_jobs_dead",
        table_name="jobs",
        postgresql_where=sa.text("state = 'dead'"),
        sqlite_where=sa.text("state = 'dead'"),
    )
    op.drop_table("jobs")
    op.drop_table("installation")
    op.drop_index("ix_idempotency_keys_resource_id", table_name="idempotency_keys")
    op.drop_index(
        "ix_idempotency_keys_created_at",
        table_name="idempotency_keys",
        postgresql_where=sa.text("status IS NOT NULL"),
        sqlite_where=sa.text("status IS NOT NULL"),
    )
    op.drop_table("idempotency_keys")
    op.drop_index(
        "ix_events_not_fanned_out",
        table_name="events",
        postgresql_where=sa.text("fanned_out = false"),
        sqlite_where=sa.text("fanned_out = 0"),
    )
    op.drop_table("events")
    op.drop_index("ix_entries_posting_id", table_name="entries")
    op.drop_index("ix_entries_account_id", table_name="entries")
    op.drop_table("entries")
    op.drop_index("ix_audit_rows_object_id", table_name="audit_rows")
    op.drop_index("ix_audit_rows_merchant_id", table_name="audit_rows")
    op.drop_table("audit_rows")
    op.drop_index("ix_accounts_merchant_id", table_name="accounts")
    op.drop_table("accounts")
