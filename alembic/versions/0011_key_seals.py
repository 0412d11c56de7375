"""What spares a verified API key its next bcrypt."""

from pathlib import Path

from alembic import op

from cli.migrate import refuse_downgrade, run_sql

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    run_sql(op.get_bind(), Path(__file__).with_suffix(".sql"))


downgrade = refuse_downgrade
