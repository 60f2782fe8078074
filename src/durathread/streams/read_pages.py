"""Streams are read in pages of about the same size, however large or small their entries are."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeAlias, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as NoAnswer

from durathread.encryption import Unreadable, unsealed

log = structlog.get_logger()

# Entries read at once, at first and at most; as many as come to about `PAGE_BYTES`. A page is what a client that does not
# read can make an API hold. The first is of one: nobody knows how large they are.
FIRST_PAGE, PAGE = 1, 512
PAGE_BYTES = 1024 * 1024

Entry: TypeAlias = tuple[bytes, dict[bytes, bytes]]
# Reads so many entries after one.
Read = Callable[[str, int], Awaitable[list[Entry]]]


def legible(data: bytes) -> bytes:
    """Decrypt an event. One that nobody can read, written with a key of before, says nothing: streams are of the moment."""
    try:
        return unsealed(data)
    except Unreadable as error:
        log.warning("An event cannot be read", error=str(error))
        return b"{}"


def next_count(count: int, page: list[Entry]) -> int:
    """Say how many entries to read next, if they are as large as those of a page that was read with this count."""
    size = sum(len(fields[b"d"]) for _, fields in page)
    return max(1, min(2 * count, PAGE, count * PAGE_BYTES // max(size, 1)))


def oldest_first(redis: "Redis", key: str) -> AsyncGenerator[Entry]:
    """Read a stream from its beginning.

    Raises:
        RedisError: Valkey is unavailable.
    """

    async def read(place: str, count: int) -> list[Entry]:
        return cast(Any, await redis.xrange(key, place, "+", count=count))

    return _entries(read, "-")


def newest_first(redis: "Redis", key: str, *, upto: str = "+") -> AsyncGenerator[Entry]:
    """Read a stream from its end, or from an entry, backwards.

    Raises:
        RedisError: Valkey is unavailable.
    """

    async def read(place: str, count: int) -> list[Entry]:
        return cast(Any, await redis.xrevrange(key, place, "-", count=count))

    return _entries(read, upto)


async def _entries(read: Read, place: str) -> AsyncGenerator[Entry]:
    count = FIRST_PAGE
    while True:
        try:
            page = await read(place, count)
        except NoAnswer:
            # Those before were smaller.
            if count == 1:
                raise
            count = 1
            continue
        for event_id, fields in page:
            yield event_id, {**fields, b"d": legible(fields[b"d"])}
        if len(page) < count:
            return
        place = f"({page[-1][0].decode()}"
        count = next_count(count, page)
