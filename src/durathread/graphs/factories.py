"""Factories of graphs: what they ask for, and how they are given it.

The SDK has no public constructor of a `ServerRuntime`: the name is an alias of two classes that it keeps to itself, for
servers to construct. This module alone does; tests/graphs/test_factories.py fails when they change.
"""

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import typing_extensions
from langchain_core.runnables import RunnableConfig
from langgraph.store.base import BaseStore
from langgraph_sdk.runtime import (
    AccessContext,
    ServerRuntime,
    _ExecutionRuntime,  # pyright: ignore[reportPrivateUsage]
    _ReadRuntime,  # pyright: ignore[reportPrivateUsage]
)

from durathread.errors import ConfigError
from durathread.graphs.contexts import context_of
from durathread.users import User

Wish = Literal["config", "runtime", "nothing"]

RUNTIMES = (ServerRuntime, _ExecutionRuntime, _ReadRuntime)
CONFIGS = (RunnableConfig, dict, Mapping, Any, object, inspect.Parameter.empty)
# An annotation that cannot be resolved, because its names are imported for type checkers only.
NAMED = re.compile(r"\bServerRuntime\b")
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Access:
    """Why a graph is opened, and with what."""

    why: AccessContext = "assistants.read"
    config: RunnableConfig | None = None
    context: Mapping[str, Any] | None = None
    """What a run has for its graph's context schema."""
    store: BaseStore | None = None


class Factory:
    """Makes a graph: sync, async, or a context manager around one; with a config, a `ServerRuntime`, both or neither."""

    def __init__(self, make: Callable[..., Any], what: str) -> None:
        """Find out what it asks for.

        Raises:
            ConfigError: it asks for something else.
        """
        self._make = _managed(make)
        self._positional: list[Wish] = []
        self._named: dict[str, Wish] = {}
        self._context: Any = None
        hints = _hints(make)
        for parameter in _parameters(make, what):
            self._take(parameter, hints.get(parameter.name, parameter.annotation), what)

    @property
    def asks(self) -> bool:
        """Whether it makes different graphs for different requests."""
        return bool({"config", "runtime"} & {*self._positional, *self._named.values()})

    def _take(self, parameter: inspect.Parameter, hint: Any, what: str) -> None:
        wish = _wish(hint, known={*self._positional, *self._named.values()})
        if wish == "nothing":
            if parameter.default is parameter.empty:
                raise ConfigError(
                    f"{what}: nothing is known for the parameter '{parameter.name}'. A factory takes a config, a "
                    "parameter annotated as langgraph_sdk.runtime.ServerRuntime, both or neither."
                )
            return
        if wish == "runtime":
            self._context = _context_of(hint)
        if parameter.kind is parameter.POSITIONAL_ONLY:
            self._positional.append(wish)
        else:
            self._named[parameter.name] = wish

    async def __call__(self, access: Access, stack: AsyncExitStack) -> Any:
        """Make a graph, which lasts as long as the stack is open."""
        given = {"config": lambda: access.config or {"configurable": {}}, "runtime": lambda: self._runtime(access)}
        made = self._make(
            *(given[wish]() for wish in self._positional),
            **{name: given[wish]() for name, wish in self._named.items()},
        )
        if inspect.isawaitable(made):
            made = await made
        if hasattr(made, "__aenter__"):
            return await stack.enter_async_context(made)
        if hasattr(made, "__enter__"):
            return stack.enter_context(made)
        return made

    def _runtime(self, access: Access) -> Any:
        common: dict[str, Any] = {
            "access_context": access.why,
            "user": _user(access.config or {}),
            "store": access.store,
        }
        if access.why == "threads.create_run":
            return _ExecutionRuntime(**common, context=context_of(self._context, access.context))
        return _ReadRuntime(**common)


def _managed(make: Callable[..., Any]) -> Callable[..., Any]:
    """Take a generator for the context manager that it was meant to be decorated as."""
    if inspect.isasyncgenfunction(make):
        return asynccontextmanager(make)
    return contextmanager(make) if inspect.isgeneratorfunction(make) else make


def _parameters(make: Callable[..., Any], what: str) -> list[inspect.Parameter]:
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what}: its parameters cannot be read: {error}") from error
    return [parameter for parameter in signature.parameters.values() if parameter.kind not in VARIADIC]


def _hints(make: Any) -> dict[str, Any]:
    """Resolve the annotations of a factory, each that can be."""
    function: Any = inspect.unwrap(getattr(make, "func", make))
    if inspect.isclass(function):
        function = cast(Any, function).__init__
    elif not inspect.isroutine(function):
        function = type(function).__call__
    found: dict[str, Any] = {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        try:
            found |= typing_extensions.get_type_hints(
                types.SimpleNamespace(__annotations__={name: hint}), getattr(function, "__globals__", {})
            )
        except Exception:  # noqa: BLE001, whatever evaluating an annotation raises
            found[name] = hint
    return found


def _wish(hint: Any, *, known: set[Wish]) -> Wish:
    """Say what a parameter of a type is for. The first that is no runtime is the config, if it can be one."""
    choices = _choices(hint)
    if "runtime" not in known and any(_is_runtime(choice) for choice in choices):
        return "runtime"
    return "config" if "config" not in known and any(_is_config(choice) for choice in choices) else "nothing"


def _choices(hint: Any) -> list[Any]:
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return _choices(typing.get_args(hint)[0])
    if origin in (typing.Union, types.UnionType):
        return [choice for part in typing.get_args(hint) for choice in _choices(part)]
    return [hint]


def _is_runtime(choice: Any) -> bool:
    if isinstance(choice, str):
        return bool(NAMED.search(choice))
    return choice in RUNTIMES or typing.get_origin(choice) in RUNTIMES


def _is_config(choice: Any) -> bool:
    if isinstance(choice, str | typing.TypeVar) or choice in CONFIGS or typing_extensions.is_typeddict(choice):
        return True
    origin = typing.get_origin(choice)
    return inspect.isclass(origin) and issubclass(origin, Mapping)


def _context_of(hint: Any) -> Any:
    """Return what a `ServerRuntime[Context]` says of the context."""
    for choice in _choices(hint):
        if _is_runtime(choice) and (args := typing.get_args(choice)):
            return args[0]
    return None


def _user(config: RunnableConfig) -> User | None:
    said = (config.get("configurable") or {}).get("langgraph_auth_user")
    return User(said) if isinstance(said, Mapping) else None
