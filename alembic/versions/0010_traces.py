"""Which span accepted a message, for those that are sampled."""

from pathlib import Path

from alembic import op

from cli.migrate import refuse_downgrade, run_functions, run_sql

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    run_functions(op.get_bind(), "shared/storage/traces_v1")
    run_sql(op.get_bind(), Path(__file__).with_suffix(".sql"))


downgrade = refuse_downgrade
