"""Leases of processes that are gone end early."""

from alembic import op

from cli.migrate import refuse_downgrade, run_functions

revision = "0007"
down_revision = "0006"

FUNCTION = "tollwire.end_lost_leases_v1(timestamptz[], bigint, timestamptz, integer)"


def upgrade() -> None:
    run_functions(op.get_bind(), "ledger/end_lost_leases_v1")
    op.execute(f"revoke execute on function {FUNCTION} from public")
    op.execute(f"grant execute on function {FUNCTION} to tollwire_ledger")


downgrade = refuse_downgrade
