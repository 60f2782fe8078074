"""The `Auth` object that langgraph.json names: who somebody is, and what they may do.

The SDK registers handlers through public decorators, but gives no accessor to what was registered: it says in its source
that servers read `_authenticate_handler`, `_handlers` and `_global_handlers`, and that changing them would break its
users. This module alone does; tests/api/test_authority.py fails when they change.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, cast

import structlog
from langgraph_sdk import Auth
from langgraph_sdk.auth.types import AuthContext, BaseUser
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from durathread.db.filters import Filter
from durathread.errors import ConfigError, Error, Forbidden
from durathread.graphs.registry import Graphs
from durathread.records import JsonObject
from durathread.users import User

log = structlog.get_logger()

Resource = Literal["threads", "assistants", "crons", "store"]
AuthAction = Literal["create", "read", "update", "delete", "search", "create_run", "put", "get", "list_namespaces"]

# What `authenticate` may ask for, by name.
GIVEN = (
    "request",
    "body",
    "headers",
    "authorization",
    "method",
    "path",
    "path_params",
    "query_params",
    "scope",
    "scopes",
    "user",
)
# What a handler's failure is answered with: the reason is in the log.
HANDLER_FAILED = "Internal Server Error"


class Authority:
    """Calls the handlers that were registered with an `Auth`."""

    def __init__(
        self, auth: Auth, *, path: str = "auth", openapi: JsonObject | None = None, keys: Sequence[str] | None = None
    ) -> None:
        """Take an `Auth`.

        Args:
            auth: with its handlers.
            path: what langgraph.json calls it.
            openapi: security schemes and requirements to show in /openapi.json.
            keys: the fields of users that are stored with their runs, besides those that every user has.

        Raises:
            ConfigError: nobody could be authenticated by it.
        """
        authenticator: Any = auth._authenticate_handler  # pyright: ignore[reportPrivateUsage]
        if authenticator is None:
            raise ConfigError(f"auth.path ({path}) has no handler: decorate a function with @auth.authenticate.")
        self._authenticator: Callable[..., Any] = authenticator
        self._handlers = auth._handlers  # pyright: ignore[reportPrivateUsage]
        self._global_handlers = auth._global_handlers  # pyright: ignore[reportPrivateUsage]
        self.asks_for = _parameters(authenticator, path)
        self.openapi = openapi or {}
        self.keys = keys
        if not self._handlers and not self._global_handlers:
            log.warning("auth.path has no @auth.on handlers: whoever is authenticated may do everything", path=path)

    @classmethod
    def load(cls, graphs: Graphs) -> "Authority | None":
        """Import the `Auth` of langgraph.json; None if it names none.

        Raises:
            ConfigError: what is configured cannot be honoured; says what, and why.
        """
        block = graphs.config.auth
        if block is None:
            return None
        named = graphs.variable(block.path, what="auth.path")
        if not isinstance(named, Auth):
            raise ConfigError(f"auth.path ({block.path}) is a {type(named).__name__}, not a langgraph_sdk.Auth.")
        return cls(named, path=block.path, openapi=block.openapi, keys=block.keys)

    async def authenticate(self, given: Mapping[str, Any]) -> User:
        """Find out who sends a request; `given` has what the handler asks for.

        Raises:
            HTTPException: the handler refuses, or has failed.
        """
        try:
            user = User.of(await _called(self._authenticator, given))
        except Error:
            # Reading the body has failed, not the handler.
            raise
        except Exception as error:
            raise _answer(error, "authenticate") from error
        if user.is_authenticated is False:
            raise HTTPException(401, detail="Unauthorized")
        return user

    async def decide(self, user: User, resource: Resource, action: AuthAction, value: JsonObject) -> Filter | None:
        """Ask the most specific handler whether a user may do something; None if to all there is.

        The handler may change `value`; what it leaves there is what is to be done.

        Raises:
            Forbidden: the user may not.
            HTTPException: the handler refuses in its own words, or has failed.
        """
        handler = self._handler(resource, action)
        if handler is None:
            return None
        context = AuthContext(permissions=user.permissions, user=cast(BaseUser, user), resource=resource, action=action)
        try:
            said = await handler(ctx=context, value=value)
            if said is None or said is True:
                return None
            if isinstance(said, Mapping):
                return Filter.parse(cast(Mapping[str, Any], said))
            if said is not False:
                raise TypeError(f"a handler returns None, a bool or a filter, not {type(said).__name__}")
        except AssertionError as error:
            raise Forbidden(str(error) or "Forbidden") from error
        except Exception as error:
            raise _answer(error, f"{resource}.{action}") from error
        raise Forbidden("Forbidden")

    def _handler(self, resource: str, action: str) -> Callable[..., Awaitable[Any]] | None:
        for key in ((resource, action), (resource, "*"), ("*", action)):
            if found := self._handlers.get(key):
                return found[-1]
        return self._global_handlers[-1] if self._global_handlers else None


def refusal(error: Exception) -> HTTPException | None:
    """Return what an exception of a handler says to the client; None if it is no refusal but a failure."""
    if isinstance(error, Auth.exceptions.HTTPException | HTTPException) and 300 <= error.status_code < 600:
        headers = dict(error.headers) if error.headers else None
        return HTTPException(error.status_code, detail=str(error.detail), headers=headers)
    return None


def _answer(error: Exception, handler: str) -> HTTPException:
    refused = refusal(error)
    if refused is None:
        log.error("An auth handler failed", handler=handler, exc_info=error)
    return refused or HTTPException(500, detail=HANDLER_FAILED)


def _parameters(handler: Callable[..., Any], path: str) -> frozenset[str]:
    """Name what a handler asks for."""
    asked: set[str] = set()
    for parameter in inspect.signature(handler).parameters.values():
        if parameter.name in GIVEN and parameter.kind is not parameter.POSITIONAL_ONLY:
            asked.add(parameter.name)
        elif parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            raise ConfigError(
                f"auth.path ({path}): authenticate asks for '{parameter.name}'. It may ask for {', '.join(GIVEN)}."
            )
    return frozenset(asked)


async def _called(handler: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Call a handler; one that is not async away from the event loop."""
    if inspect.iscoroutinefunction(handler):
        return await handler(**given)
    said = await run_in_threadpool(handler, **given)
    return await said if inspect.isawaitable(said) else said
