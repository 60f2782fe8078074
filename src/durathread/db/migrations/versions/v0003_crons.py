"""Crons and their firings."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the tables."""
    sql = Path(__file__).parents[1] / "0003_crons.sql"
    # The driver's own call, because SQLAlchemy's would read `%` and `:name` as parameters.
    op.get_bind().exec_driver_sql(sql.read_text().replace("%", "%%"))
