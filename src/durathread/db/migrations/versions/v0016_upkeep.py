"""What the look for repairs remembers."""

from pathlib import Path

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Let processes agree on who begins a sweep, and runs be asked for less and less often."""
    sql = Path(__file__).parents[1] / "0016_upkeep.sql"
    # The driver's own call, because SQLAlchemy's would read `%` and `:name` as parameters.
    op.get_bind().exec_driver_sql(sql.read_text().replace("%", "%%"))
