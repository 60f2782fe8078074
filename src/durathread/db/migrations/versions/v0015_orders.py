"""Threads in the orders that clients ask for."""

from pathlib import Path

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Let a page of many threads be read without sorting all."""
    sql = Path(__file__).parents[1] / "0015_orders.sql"
    # The driver's own call, because SQLAlchemy's would read `%` and `:name` as parameters.
    op.get_bind().exec_driver_sql(sql.read_text().replace("%", "%%"))
