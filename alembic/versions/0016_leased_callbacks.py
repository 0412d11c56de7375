"""A callback says whether somebody may be posting it: by its time alone a retry looks like a lease."""

from alembic import op

from cli.migrate import refuse_downgrade

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.execute("alter table tollwire.callbacks add column is_leased boolean not null default false")
    op.execute(
        "comment on column tollwire.callbacks.is_leased is"
        " 'Until due_at a process may be posting it; false: it waits until then'"
    )


downgrade = refuse_downgrade
