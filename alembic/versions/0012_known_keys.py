"""What stands under a key is found also for a request that could not be accepted now."""

from alembic import op

from cli.migrate import refuse_downgrade, run_functions

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    run_functions(op.get_bind(), "api/known_keys_v1")


downgrade = refuse_downgrade
