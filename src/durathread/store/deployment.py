"""Who the database is: a deployment, which Temporal must not take for another."""

from dataclasses import dataclass
from uuid import UUID

import psycopg

from durathread.store import schema
from durathread.store.pool import Connection

SELECT = "SELECT deployment_id, task_queue FROM deployment"
# Where the data lies: a dump that is restored elsewhere has the same deployment in another place.
PLACE = """
SELECT s.system_identifier || '/' || d.oid AS place
FROM pg_control_system() s, pg_database d WHERE d.datname = current_database()
"""


@dataclass(frozen=True)
class Deployment:
    """A database and those who work on it. `place` is empty where Postgres does not tell."""

    deployment_id: UUID
    task_queue: str
    place: str = ""


async def get(conn: Connection) -> Deployment:
    """Read who the database is.

    Raises:
        Unprepared: it is not migrated to the version of this code.
    """
    (await schema.read(conn)).require()
    row = (await (await conn.execute(SELECT)).fetchall())[0]
    return Deployment(row["deployment_id"], row["task_queue"], await _place(conn))


async def _place(conn: Connection) -> str:
    try:
        async with conn.transaction():
            row = await (await conn.execute(PLACE)).fetchone()
    except psycopg.OperationalError:
        raise
    except psycopg.Error:
        # Managed and compatible servers may not have the function, or keep it to themselves.
        return ""
    return row["place"] if row else ""
