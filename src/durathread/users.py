"""Who sends a request, or in whose name a run works."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, cast

from durathread.encode import jsonable
from durathread.records import JsonObject

ANYBODY = "*"
# Names of fields that hold what lets somebody in: runs, crons and checkpoints keep what they are started with.
CREDENTIAL = re.compile(
    r"token|secret|passw|credential|authorization|api_?key|private_?key|cookie|jwt|bearer|assertion", re.IGNORECASE
)
# The key of a run's kwargs that holds what its webhooks are signed with.
WEBHOOK_SECRET = "webhook_secret"
# That which holds the runs that wait for it, the one that began first: they may be another user's.
CALLERS = "callers"
# What a user has, whatever `authenticate` said of it.
KNOWN = ("identity", "display_name", "is_authenticated", "permissions")


class User(dict[str, Any]):
    """A user as JSON: what `authenticate` returned, with the four fields that every user has.

    A dict, so that rows and graphs' configs keep it as it is; its keys are attributes too, as those of LangGraph's users
    are. Where `authenticate` gave an object, that object's other attributes can be read as well, until the user has been
    through JSON.
    """

    def __init__(self, said: Mapping[str, Any], source: object = None) -> None:
        """Take a user from its JSON form.

        Raises:
            ValueError: it has no identity.
        """
        identity = said.get("identity")
        if identity is None or identity == "":
            raise ValueError("a user must have an identity")
        name = str(identity)
        if name == ANYBODY:
            # As a label of a namespace it stands for any.
            raise ValueError(f"a user cannot be called {ANYBODY}")
        super().__init__(
            {
                **said,
                "identity": name,
                "display_name": said.get("display_name") or name,
                "is_authenticated": said.get("is_authenticated", True),
                "permissions": list(said.get("permissions") or ()),
            }
        )
        self._source = source

    @classmethod
    def of(cls, given: object) -> "User":
        """Take a user from what `authenticate` returned: an identity, a mapping, an object, or (permissions, user).

        Raises:
            ValueError: it says nobody's identity.
        """
        if isinstance(given, tuple) and len(cast(tuple[Any, ...], given)) == 2:
            permissions, user = cast(tuple[Iterable[str], object], given)
            found = cls.of(user)
            return cls({**found, "permissions": list(permissions)}, found._source)
        if isinstance(given, str):
            return cls({"identity": given})
        if isinstance(given, Mapping):
            return cls(jsonable(given))
        return cls(jsonable(_described(given)), given)

    @property
    def identity(self) -> str:
        """What tells the user from all others."""
        return self["identity"]

    @property
    def display_name(self) -> str:
        """What the user is called; the identity by default."""
        return self["display_name"]

    @property
    def is_authenticated(self) -> bool:
        """What `authenticate` said; true by default."""
        return self["is_authenticated"]

    @property
    def permissions(self) -> list[str]:
        """What the user may do, in words that only the application's own handlers understand."""
        return self["permissions"]

    def kept(self, keys: Collection[str] | None = None) -> JsonObject:
        """Return what is stored of the user: what every user has, and the fields named by `keys`.

        Without `keys`: all fields but those that hold credentials by their names, however deep they lie.
        """
        if keys is None:
            return _without_credentials(dict(self))
        return {key: value for key, value in self.items() if key in KNOWN or key in keys}

    def configurable(self, keys: Collection[str] | None = None) -> JsonObject:
        """Return what the graphs that work for the user find in `configurable`; see `kept`."""
        return {
            "langgraph_auth_user": self.kept(keys),
            "langgraph_auth_user_id": self.identity,
            "langgraph_auth_permissions": self.permissions,
            "user_id": self.identity,
        }

    def __getattr__(self, name: str) -> Any:
        """Read another field, or attribute of the object that `authenticate` gave."""
        if name in self:
            return self[name]
        # Not through `self`, which would come back here while a copy is being made.
        source = self.__dict__.get("_source")
        if source is None or name.startswith("__"):
            raise AttributeError(name)
        return getattr(source, name)


def _without_credentials(fields: JsonObject) -> JsonObject:
    return {key: _cleaned(value) for key, value in fields.items() if not CREDENTIAL.search(key)}


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return _without_credentials(cast(JsonObject, value))
    return [_cleaned(each) for each in cast("list[Any]", value)] if isinstance(value, list) else value


def without_user(kwargs: JsonObject) -> JsonObject:
    """Leave out of a run's kwargs what `authenticate` said of its user, what its webhooks are signed with, and who waits for it.

    Not only that user sees the run.
    """
    kwargs = {key: value for key, value in kwargs.items() if key not in (WEBHOOK_SECRET, CALLERS)}
    config: JsonObject = kwargs.get("config") or {}
    configurable: JsonObject = config.get("configurable") or {}
    if "langgraph_auth_user" not in configurable:
        return kwargs
    shown = {key: value for key, value in configurable.items() if key != "langgraph_auth_user"}
    return {**kwargs, "config": {**config, "configurable": shown}}


def _described(given: Any) -> JsonObject:
    """List the fields of an object, and of the four that users have those that it has."""
    if callable(getattr(given, "model_dump", None)):
        found: JsonObject = given.model_dump()
    elif is_dataclass(given):
        found = {field.name: getattr(given, field.name) for field in fields(given)}
    elif hasattr(given, "keys") or hasattr(given, "__iter__"):
        found = {str(key): given[key] for key in given}
    else:
        found = dict(getattr(given, "__dict__", {}))
    public = {key: value for key, value in found.items() if not key.startswith("_")}
    return {**public, **{name: getattr(given, name) for name in KNOWN if hasattr(given, name)}}
