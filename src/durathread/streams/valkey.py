"""How Valkey is reached: with little patience, because nothing that matters waits there."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

# How long an answer may take, in seconds.
SOCKET_TIMEOUT = 2.0
# The client by itself tries ten times, with pauses: a run took four seconds longer while Valkey was away.
ONCE_MORE = 1


def connect(url: str) -> "Redis":
    """Build a client. What Valkey does not answer in time fails; only who listens waits as long as it takes."""
    return Redis.from_url(
        url,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=SOCKET_TIMEOUT,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), ONCE_MORE),
    )
