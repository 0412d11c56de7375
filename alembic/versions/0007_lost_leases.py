"""Leases of processes that are gone end early."""

from alembic import op

from cli.migrate import refuse_downgrade, run_functions

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_functions(op.get_bind(), "ledger/end_lost_leases_v1")


downgrade = refuse_downgrade
