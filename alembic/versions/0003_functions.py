"""The functions of the hot path and of the clockwork, and partitions for a week."""

from pathlib import Path

from alembic import op

from cli.migrate import refuse_downgrade, run_functions, run_sql

revision = "0003"
down_revision = "0002"

FUNCTIONS = (
    "shared/storage/uuid7_floor_v1",
    "shared/storage/uuid7_v1",
    "shared/storage/next_state_v1",
    "shared/storage/add_callbacks_v1",
    "shared/storage/may_be_twice_v1",
    "ledger/require_read_committed_v1",
    "ledger/entry_hash_v1",
    "ledger/system_account_v1",
    "ledger/open_account_v1",
    "ledger/place_holds_v1",
    "ledger/settle_holds_v1",
    "ledger/post_credit_v1",
    "ledger/finish_v1",
    "ledger/partitions_v1",
    "api/accept_batch_v1",
    "api/cancel_batch_v1",
    "worker/claim_batch_v1",
    "worker/record_batch_v1",
    "dlr/receive_batch_v1",
    "dlr/match_receipts_v1",
    "dlr/settle_rest_v1",
    "dlr/settle_batch_v1",
    "dlr/take_receipts_v1",
    "dlr/tell_again_v1",
    "dlr/callbacks_v1",
    "ledger/clockwork_v1",
)


def upgrade() -> None:
    here = Path(__file__)
    run_sql(op.get_bind(), here.with_name("0003_partition_rules.sql"), here.with_name("0003_guard.sql"))
    run_functions(op.get_bind(), *FUNCTIONS)
    run_sql(op.get_bind(), here.with_suffix(".sql"))


downgrade = refuse_downgrade
