"""What clients ask of their callbacks: test and replay."""

from alembic import op

from cli.migrate import refuse_downgrade, run_functions

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_functions(op.get_bind(), "api/callback_control_v1")


downgrade = refuse_downgrade
