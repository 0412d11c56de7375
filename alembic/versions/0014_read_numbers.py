"""A worker may ask whom work is for, so that it claims nothing for a carrier that is away."""

from alembic import op

from cli.migrate import refuse_downgrade, run_functions

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    run_functions(op.get_bind(), "worker/read_numbers_v1")


downgrade = refuse_downgrade
