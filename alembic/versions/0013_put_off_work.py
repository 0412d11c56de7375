"""A worker may put off what a slow carrier does not take."""

from alembic import op

from cli.migrate import refuse_downgrade, run_functions

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    run_functions(op.get_bind(), "worker/put_off_work_v1")


downgrade = refuse_downgrade
