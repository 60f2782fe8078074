"""Requests that are carried out once, however often they are sent: what is known of each by its `Idempotency-Key`.

A key is claimed before anything is done, and names what is made: the ids follow from the key's own seed. That it was made is
written by the transaction that makes it. So whoever asks again, after whatever crash, makes it now or finds it; the answer,
which is kept afterwards, only spares the work.
"""

from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID, uuid5

from durathread.db.pool import Connection
from durathread.db.sealed import sealed
from durathread.errors import Unavailable
from durathread.records import JsonObject

LIFETIME: LiteralString = "interval '1 day'"
CLAIM: LiteralString = f"""
INSERT INTO idempotency AS i (scope, key, fingerprint) VALUES (%(scope)s, %(key)s, %(fingerprint)s)
ON CONFLICT (scope, key) DO UPDATE SET fingerprint = EXCLUDED.fingerprint, seed = EXCLUDED.seed, made = FALSE, answer = NULL,
    created_at = EXCLUDED.created_at
WHERE i.created_at < now() - {LIFETIME}
RETURNING fingerprint, seed, answer
"""
GET = "SELECT fingerprint, seed, answer FROM idempotency WHERE scope = %(scope)s AND key = %(key)s"
LOCK = "SELECT made, seed FROM idempotency WHERE scope = %(scope)s AND key = %(key)s FOR UPDATE"
MARK = "UPDATE idempotency SET made = %(made)s WHERE scope = %(scope)s AND key = %(key)s"
# What Temporal may have heard of must not come back under its name: a thread ends each run once.
TAKE_BACK = """
UPDATE idempotency SET made = FALSE, seed = gen_random_uuid()
WHERE scope = %(scope)s AND key = %(key)s AND seed = %(seed)s
"""
KEEP = """
UPDATE idempotency SET answer = coalesce(answer, %(answer)s) WHERE scope = %(scope)s AND key = %(key)s RETURNING answer
"""
FORGET: LiteralString = f"DELETE FROM idempotency WHERE created_at < now() - {LIFETIME}"


@dataclass(frozen=True)
class Key:
    """A request's key, which names what the request makes."""

    scope: str
    key: str
    seed: UUID

    def named(self, what: str) -> UUID:
        """Name something that the request makes."""
        return uuid5(self.seed, what)


@dataclass(frozen=True)
class Claim:
    """What is known of a request: what it was, and what it was answered, if that was kept."""

    key: Key
    fingerprint: bytes
    answer: JsonObject | None


async def claim(conn: Connection, scope: str, key: str, *, fingerprint: bytes) -> Claim:
    """Note a request, unless it was noted within a day; return what is known of it."""
    args = {"scope": scope, "key": key, "fingerprint": fingerprint}
    row = None
    while row is None:
        row = await (await conn.execute(CLAIM, args)).fetchone() or await (await conn.execute(GET, args)).fetchone()
    return Claim(Key(scope, key, row["seed"]), bytes(row["fingerprint"]), row["answer"])


async def begin(conn: Connection, key: Key | None) -> bool:
    """Say whether a request has made before what it makes; if not, it makes it in the caller's transaction.

    Who sends the same request at the same time waits for the end of that.

    Raises:
        Unavailable: what it has made has been taken back meanwhile.
    """
    if key is None:
        return False
    made = await is_made(conn, key)
    if not made:
        await conn.execute(MARK, {"scope": key.scope, "key": key.key, "made": True})
    return made


async def is_made(conn: Connection, key: Key) -> bool:
    """Say whether a request has made what it makes.

    Raises:
        Unavailable: it has been taken back meanwhile, and what is made next has other names.
    """
    row = await (await conn.execute(LOCK, {"scope": key.scope, "key": key.key})).fetchone()
    if row is not None and row["seed"] != key.seed:
        raise Unavailable("The same request has just come to nothing: send it again.")
    return row is not None and row["made"]


async def refrain(conn: Connection, key: Key | None) -> None:
    """Note that a request makes nothing after all, in the transaction in which it began to."""
    if key is not None:
        await conn.execute(MARK, {"scope": key.scope, "key": key.key, "made": False})


async def take_back(conn: Connection, key: Key | None) -> None:
    """Note that what a request has made is no more, as if it had not been made: the caller's transaction unmakes it.

    What it makes next has other names.
    """
    if key is not None:
        await conn.execute(TAKE_BACK, {"scope": key.scope, "key": key.key, "seed": key.seed})


async def keep(conn: Connection, key: Key, answer: JsonObject) -> JsonObject:
    """Keep the answer to a request; return the one that was kept first."""
    args = {"scope": key.scope, "key": key.key, "answer": sealed(answer)}
    row = await (await conn.execute(KEEP, args)).fetchone()
    return row["answer"] if row else answer


async def forget(conn: Connection) -> None:
    """Forget requests that are older than a day."""
    await conn.execute(FORGET)
