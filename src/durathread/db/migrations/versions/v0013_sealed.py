"""The names of the keys that something is encrypted with."""

from pathlib import Path

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Let a server that has not the key be told so when it starts."""
    sql = Path(__file__).parents[1] / "0013_sealed.sql"
    # The driver's own call, because SQLAlchemy's would read `%` and `:name` as parameters.
    op.get_bind().exec_driver_sql(sql.read_text().replace("%", "%%"))
