"""What clients ask of their callbacks: test and replay."""

from alembic import op

from cli.migrate import refuse_downgrade, run_functions

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_functions(op.get_bind(), "api/callback_control_v1")
    for function in (
        "tollwire.replay_callbacks_v1(bigint, uuid[], timestamptz, uuid, integer, integer)",
        "tollwire.test_callback_v1(bigint)",
    ):
        op.execute(f"revoke execute on function {function} from public")
        op.execute(f"grant execute on function {function} to tollwire_api")


downgrade = refuse_downgrade
