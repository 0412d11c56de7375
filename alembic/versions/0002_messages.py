"""Clients, keys, rates, carriers, messages and everything that follows a message."""

from pathlib import Path

from alembic import op

from cli.migrate import refuse_downgrade, run_sql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_sql(op.get_bind(), Path(__file__).with_suffix(".sql"))


downgrade = refuse_downgrade
