"""${message}."""

from pathlib import Path

from alembic import op

from cli.migrate import refuse_downgrade, run_sql

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    run_sql(op.get_bind(), Path(__file__).with_suffix(".sql"))


downgrade = refuse_downgrade
