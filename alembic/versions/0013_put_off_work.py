"""A worker may put off what a slow carrier does not take."""

from alembic import op

from cli.migrate import refuse_downgrade, run_functions

revision = "0013"
down_revision = "0012"

FUNCTION = "tollwire.put_off_work_v1(uuid[], integer[], double precision[])"


def upgrade() -> None:
    run_functions(op.get_bind(), "worker/put_off_work_v1")
    op.execute(f"revoke execute on function {FUNCTION} from public")
    op.execute(f"grant execute on function {FUNCTION} to tollwire_worker")


downgrade = refuse_downgrade
