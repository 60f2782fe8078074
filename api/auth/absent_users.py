"""What a user who is not here may do now: a cron works for its owner as long as that is allowed."""

from starlette.exceptions import HTTPException

from durathread.api.auth.handlers import Authority
from durathread.db.filters import Filter
from durathread.errors import Error, Forbidden
from durathread.graphs.registry import Graphs
from durathread.records import JsonObject
from durathread.users import User


class Standing:
    """Asks the `Auth` that langgraph.json names about users whom it has authenticated before."""

    def __init__(self, authority: Authority | None) -> None:
        """Take whom to ask; None if everybody may do everything."""
        self._authority = authority

    @classmethod
    def load(cls, graphs: Graphs) -> "Standing":
        """Import what langgraph.json names.

        Raises:
            ConfigError: it cannot be used.
        """
        return cls(Authority.load(graphs))

    async def ask(self, user: JsonObject, value: JsonObject) -> Filter | None:
        """Say on which threads a user may start a run; None for all.

        Raises:
            Forbidden: on none.
            Error: that cannot be found out.
        """
        if self._authority is None:
            return None
        try:
            return await self._authority.decide(User.of(user), "threads", "create_run", value)
        except HTTPException as error:
            refused = Forbidden if error.status_code < 500 else Error
            raise refused(str(error.detail)) from error
