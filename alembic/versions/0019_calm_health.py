"""Autovacuum leaves the endpoints' health alone: after each visit all that reads it is planned anew."""

from alembic import op

from cli.migrate import refuse_downgrade

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    # Ends, loads and leases of callbacks read it beside tables of 90 days, and take 2 to 8 ms a plan. A row
    # an endpoint; dead ones go as their page is written again.
    op.execute(
        "alter table tollwire.callback_health set"
        " (autovacuum_vacuum_threshold = 10000, autovacuum_analyze_threshold = 10000)"
    )


downgrade = refuse_downgrade
