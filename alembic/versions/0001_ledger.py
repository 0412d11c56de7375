"""The money: accounts, holds, journal."""

from pathlib import Path

from alembic import op

from cli.migrate import refuse_downgrade, run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_sql(op.get_bind(), Path(__file__).with_suffix(".sql"))


downgrade = refuse_downgrade
