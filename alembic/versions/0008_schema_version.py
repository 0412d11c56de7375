"""Every process asks which schema it has before it starts."""

from alembic import op

from cli.migrate import refuse_downgrade

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("grant select on tollwire.schema_version to tollwire_worker, tollwire_dlr")


downgrade = refuse_downgrade
