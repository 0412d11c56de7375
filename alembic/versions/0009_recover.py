"""What `tollwire recover` decides after a restore."""

from alembic import op

from cli.migrate import refuse_downgrade, run_functions

revision = "0009"
down_revision = "0008"

FUNCTION = (
    "tollwire.recover_restored_v1"
    "(uuid[], tollwire.message_state[], text[], boolean[], smallint[],"
    " timestamptz, timestamptz, boolean, smallint)"
)


def upgrade() -> None:
    run_functions(op.get_bind(), "ledger/recover_restored_v1")
    op.execute(f"revoke execute on function {FUNCTION} from public")
    op.execute(f"grant execute on function {FUNCTION} to tollwire_ledger")


downgrade = refuse_downgrade
