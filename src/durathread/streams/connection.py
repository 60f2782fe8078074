"""How Valkey is reached: with little patience, because nothing that matters waits there."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

# How long an answer may take, in seconds. The client's own patience is eleven times this, and sleeps in between.
PATIENCE = 2.0
# A connection that was kept while Valkey was restarted is known to be gone only when it is used: once more, at once.
AGAIN = Retry(ConstantBackoff(0), 1)


def connect(url: str) -> "Redis":
    """Build a client. What Valkey does not answer in time fails; only who listens waits as long as it takes."""
    return Redis.from_url(url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, retry=AGAIN)
