"""A callback says whether its message named another URL than the endpoint's, which fails by itself."""

from pathlib import Path

from alembic import op

from cli.migrate import refuse_downgrade, run_sql

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    run_sql(op.get_bind(), Path(__file__).with_suffix(".sql"))


downgrade = refuse_downgrade
