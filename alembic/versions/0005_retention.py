"""Retention: closed days are archived and dropped, texts expire, numbers are erased, secrets resealed."""

from pathlib import Path

from alembic import op

from cli.migrate import refuse_downgrade, run_functions, run_sql

revision = "0005"
down_revision = "0004"

FUNCTIONS = (
    "ledger/retention_v1",
    "ledger/retire_v1",
    "ledger/text_retention_v1",
    "ledger/erase_v1",
    "ledger/reseal_v1",
)


def upgrade() -> None:
    run_sql(op.get_bind(), Path(__file__).with_name("0005_tables.sql"))
    run_functions(op.get_bind(), *FUNCTIONS)
    run_sql(op.get_bind(), Path(__file__).with_suffix(".sql"))


downgrade = refuse_downgrade
