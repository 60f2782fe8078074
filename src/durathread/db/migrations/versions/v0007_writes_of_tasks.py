"""What a task came to, and what it came to before."""

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Let the writes of a task replace its failure."""
    sql = Path(__file__).parents[1] / "0007_writes_of_tasks.sql"
    # The driver's own call, because SQLAlchemy's would read `%` and `:name` as parameters.
    op.get_bind().exec_driver_sql(sql.read_text().replace("%", "%%"))
