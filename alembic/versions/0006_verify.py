"""Closing and sealing days, and what a verification may read."""

from pathlib import Path

from alembic import op

from cli.migrate import refuse_downgrade, run_functions, run_sql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_functions(op.get_bind(), "ledger/verify_v1")
    run_sql(op.get_bind(), Path(__file__).with_suffix(".sql"))


downgrade = refuse_downgrade
