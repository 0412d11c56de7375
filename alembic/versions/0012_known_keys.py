"""What stands under a key is found also for a request that could not be accepted now."""

from alembic import op

from cli.migrate import refuse_downgrade, run_functions

revision = "0012"
down_revision = "0011"

FUNCTION = "tollwire.known_keys_v1(bigint[], text[], smallint[])"


def upgrade() -> None:
    run_functions(op.get_bind(), "api/known_keys_v1")
    op.execute(f"revoke execute on function {FUNCTION} from public")
    op.execute(f"grant execute on function {FUNCTION} to tollwire_api")


downgrade = refuse_downgrade
