"""What `tollwire recover` decides after a restore."""

from alembic import op

from cli.migrate import refuse_downgrade, run_functions

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    run_functions(op.get_bind(), "ledger/recover_restored_v1")


downgrade = refuse_downgrade
