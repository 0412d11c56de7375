"""Which server functions are installed; and the guard of states as it is now."""

from pathlib import Path

from alembic import op

from cli.migrate import refuse_downgrade, run_sql

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    # Databases of before may hold an earlier guard, which is no function: nothing else brings it up.
    here = Path(__file__)
    run_sql(op.get_bind(), here.with_name("0003_guard.sql"), here.with_suffix(".sql"))


downgrade = refuse_downgrade
