"""The identity of a deployment."""

from pathlib import Path

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Name the database and its task queue."""
    sql = Path(__file__).parents[1] / "0008_deployment.sql"
    # The driver's own call, because SQLAlchemy's would read `%` and `:name` as parameters.
    op.get_bind().exec_driver_sql(sql.read_text().replace("%", "%%"))
