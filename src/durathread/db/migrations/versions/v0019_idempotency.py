"""Requests that may be repeated."""

from pathlib import Path

from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Let a request be known when it comes again."""
    sql = Path(__file__).parents[1] / "0019_idempotency.sql"
    # The driver's own call, because SQLAlchemy's would read `%` and `:name` as parameters.
    op.get_bind().exec_driver_sql(sql.read_text().replace("%", "%%"))
