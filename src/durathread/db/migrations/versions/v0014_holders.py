"""Whose runs and crons are, for quotas."""

from pathlib import Path

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Let runs and crons be counted."""
    sql = Path(__file__).parents[1] / "0014_holders.sql"
    # The driver's own call, because SQLAlchemy's would read `%` and `:name` as parameters.
    op.get_bind().exec_driver_sql(sql.read_text().replace("%", "%%"))
