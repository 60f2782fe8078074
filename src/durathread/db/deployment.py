"""Who the database is: a deployment, which Temporal must not take for another."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg
import structlog

from durathread import encryption
from durathread.db import schema
from durathread.db.pool import Connection
from durathread.errors import ConfigError

log = structlog.get_logger()

SELECT = "SELECT deployment_id, task_queue FROM deployment"
SEALED_BY = "SELECT sealed_by FROM deployment"
SEAL_BY = """
UPDATE deployment SET sealed_by = sealed_by || %(key)s::text WHERE %(key)s <> ALL(sealed_by)
RETURNING EXISTS (SELECT 1 FROM thread) OR EXISTS (SELECT 1 FROM cron) OR EXISTS (SELECT 1 FROM store) AS older
"""
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


async def agree_on_keys(conn: Connection) -> None:
    """Make sure that all that is encrypted can be read, and note what will be encrypted with before anything is.

    Raises:
        ConfigError: some of it cannot. Nothing has been changed.
    """
    [row] = await (await conn.execute(SEALED_BY)).fetchall()
    _require_keys(row["sealed_by"])
    if (key := encryption.keys().current) is None:
        return
    noted = await (await conn.execute(SEAL_BY, {"key": key.name})).fetchone()
    if noted and noted["older"]:
        log.warning(
            "What was stored before stays as it is: only what is written from now on is encrypted with this key"
        )


def _require_keys(names: Sequence[str]) -> None:
    known = encryption.keys().known
    if missing := [name for name in names if name not in known]:
        raise ConfigError(
            f"The database holds what was encrypted with another key ({', '.join(missing)}), which is not here: set "
            f"{encryption.KEY} to it, or name it in {encryption.OLD_KEYS} beside a new one. Nothing was changed."
        )


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
