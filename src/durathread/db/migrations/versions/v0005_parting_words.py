"""What a run of durability `exit` leaves when it is interrupted."""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Let what is told to stop say where it was."""
    sql = Path(__file__).parents[1] / "0005_parting_words.sql"
    # The driver's own call, because SQLAlchemy's would read `%` and `:name` as parameters.
    op.get_bind().exec_driver_sql(sql.read_text().replace("%", "%%"))
