"""Which version installed a set of server functions: the later version's stay, not what came last."""

from pathlib import Path

from alembic import op

from cli.migrate import refuse_downgrade, run_sql

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    run_sql(op.get_bind(), Path(__file__).with_suffix(".sql"))


downgrade = refuse_downgrade
