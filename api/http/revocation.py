"""Whether who has sent a request has been refused since: it is then we who end the answer, and not they who leave."""

from starlette.types import Scope

KEY = "durathread.revocation"


class Revocation:
    """What the layers of a request share, also those that are given a copy of its scope."""

    happened = False


def is_revoked(scope: Scope) -> bool:
    """Say whether who has sent a request is not welcome any more."""
    found: Revocation | None = scope.get(KEY)
    return found is not None and found.happened
