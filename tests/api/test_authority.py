"""The `Auth` of the SDK, as it is read and called: which handler decides, and what it may say."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langgraph_sdk import Auth
from starlette.exceptions import HTTPException

from durathread.api.auth.handlers import Authority
from durathread.config.langgraph_json import parse
from durathread.db.filters import Filter
from durathread.errors import ConfigError, Forbidden
from durathread.graphs.registry import Graphs
from durathread.users import User

ALICE = User({"identity": "alice", "permissions": ["a", "b"]})


def an_auth(*decorators: Callable[[Auth], Any]) -> Auth:
    """Build an `Auth` whose handlers put their number into the value."""
    auth = Auth()

    @auth.authenticate
    async def authenticate() -> str:
        return "alice"

    for number, decorator in enumerate(decorators):

        async def handle(ctx: Any, value: Any, number: int = number) -> None:
            value["by"] = number

        decorator(auth)(handle)
    assert authenticate
    return auth


async def decided_by(auth: Auth, resource: Any, action: Any) -> int | None:
    """Say which handler has decided; None if none has."""
    value: dict[str, Any] = {}
    assert await Authority(auth).decide(ALICE, resource, action, value) is None
    return value.get("by")


async def test_the_most_specific_handler_alone_decides() -> None:
    auth = an_auth(
        lambda auth: auth.on,
        lambda auth: auth.on(actions="read"),
        lambda auth: auth.on.threads,
        lambda auth: auth.on.threads.read,
        lambda auth: auth.on.store,
        lambda auth: auth.on.store.put,
    )
    assert await decided_by(auth, "threads", "read") == 3
    assert await decided_by(auth, "threads", "create") == 2
    assert await decided_by(auth, "assistants", "read") == 1
    assert await decided_by(auth, "assistants", "create") == 0
    assert await decided_by(auth, "store", "put") == 5
    assert await decided_by(auth, "store", "search") == 4


async def test_a_handler_of_a_resource_comes_before_one_of_an_action() -> None:
    auth = an_auth(
        lambda auth: auth.on(actions=["read", "search"]), lambda auth: auth.on(resources=["threads", "crons"])
    )
    assert await decided_by(auth, "threads", "read") == 1
    assert await decided_by(auth, "crons", "search") == 1
    assert await decided_by(auth, "assistants", "search") == 0


async def test_without_a_handler_everything_is_allowed() -> None:
    auth = an_auth(lambda auth: auth.on.threads.create)
    assert await decided_by(auth, "threads", "read") is None
    assert await decided_by(auth, "threads", "create") == 0


def says(what: Any) -> Authority:
    """Build an authority whose handler returns something, or raises it."""
    auth = an_auth()

    @auth.on
    async def handle(ctx: Any, value: Any) -> Any:
        if isinstance(what, Exception):
            raise what
        return what

    assert handle
    return Authority(auth)


async def test_what_a_handler_says_is_done() -> None:
    assert await says(None).decide(ALICE, "threads", "read", {}) is None
    assert await says(True).decide(ALICE, "threads", "read", {}) is None
    assert await says({}).decide(ALICE, "threads", "read", {}) is None
    assert await says({"owner": "alice"}).decide(ALICE, "threads", "read", {}) == Filter(({"owner": "alice"},))
    with pytest.raises(Forbidden):
        await says(False).decide(ALICE, "threads", "read", {})
    with pytest.raises(Forbidden, match="not yours"):
        await says(AssertionError("not yours")).decide(ALICE, "threads", "read", {})


@pytest.mark.parametrize("status", [302, 400, 402, 404, 418, 429, 503])
async def test_a_refusal_keeps_its_status_detail_and_headers(status: int) -> None:
    for kind in (Auth.exceptions.HTTPException, HTTPException):
        refused = kind(status, "Pay first", headers={"Retry-After": "7"})
        with pytest.raises(HTTPException) as caught:
            await says(refused).decide(ALICE, "threads", "read", {})
        assert (caught.value.status_code, caught.value.detail) == (status, "Pay first")
        assert caught.value.headers == {"Retry-After": "7"}


@pytest.mark.parametrize(
    "what",
    [
        RuntimeError("secret"),
        {"owner": {"$like": "a%"}},
        {"$or": [{"owner": "alice"}]},
        "alice",
        1,
        [],
        Auth.exceptions.HTTPException(200, "come in"),
    ],
    ids=str,
)
async def test_a_handler_that_fails_lets_nobody_in(what: Any) -> None:
    with pytest.raises(HTTPException) as caught:
        await says(what).decide(ALICE, "threads", "read", {})
    assert (caught.value.status_code, caught.value.detail) == (500, "Internal Server Error")


async def test_handlers_get_the_user_the_resource_and_the_action() -> None:
    auth, seen = an_auth(), list[Any]()

    @auth.on
    async def handle(ctx: Auth.types.AuthContext, value: Any) -> None:
        seen.extend(
            [ctx.user.identity, ctx.permissions, ctx.resource, ctx.action, isinstance(ctx.user, Auth.types.BaseUser)]
        )

    await Authority(auth).decide(ALICE, "crons", "update", {})
    assert handle
    assert seen == ["alice", ["a", "b"], "crons", "update", True]


async def test_a_user_is_whatever_authenticate_returns() -> None:
    class Account:
        """A user with more than a user needs."""

        identity = "carol"
        permissions = ("read",)

        def __init__(self) -> None:
            self.team = "red"
            self._secret = "s"

        def may(self, what: str) -> bool:
            """Say whether the account may do something."""
            return what in self.permissions

    account = User.of(Account())
    assert account["team"] == account.team == "red"
    assert account.may("read")
    assert account["permissions"] == ["read"]
    assert "_secret" not in account
    known = {"identity": "dan", "display_name": "dan", "is_authenticated": True, "permissions": []}
    assert User.of("dan") == known
    assert User.of({"identity": "dan"}) == known
    assert User.of((["x"], {"identity": "dan"})) == {**known, "permissions": ["x"]}
    assert User.of(SimpleNamespace(identity="dan", age=7)) == {**known, "age": 7}
    assert User.of(User(known)) == known
    studio = User.of(Auth.types.StudioUser("dev", is_authenticated=True))
    assert (studio.identity, studio.permissions) == ("dev", ["authenticated"])
    assert User(json.loads(json.dumps(account))) == account


@pytest.mark.parametrize("nobody", [None, "", {}, {"identity": None}, {"name": "x"}, object(), ("a", "b", "c")])
async def test_who_has_no_identity_is_nobody(nobody: Any) -> None:
    auth = Auth()

    @auth.authenticate
    def authenticate() -> Any:
        return nobody

    assert authenticate
    with pytest.raises(HTTPException) as caught:
        await Authority(auth).authenticate({})
    assert caught.value.status_code == 500


def test_the_sdk_keeps_its_handlers_where_they_are_read() -> None:
    auth = an_auth(lambda auth: auth.on.threads.read, lambda auth: auth.on)
    assert callable(auth._authenticate_handler)  # pyright: ignore[reportPrivateUsage]
    assert [(key, len(found)) for key, found in auth._handlers.items()] == [(("threads", "read"), 1)]  # pyright: ignore[reportPrivateUsage]
    assert len(auth._global_handlers) == 1  # pyright: ignore[reportPrivateUsage]


FILE = """
from langgraph_sdk import Auth
auth, empty, other = Auth(), Auth(), 7

@auth.authenticate
async def authenticate(authorization: str) -> str:
    return authorization

asks = Auth()

@asks.authenticate
async def asking(token: str) -> str:
    return token
"""


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (7, "must be an object"),
        ({}, "needs a path"),
        ({"path": "./auth.py:auth", "allow_all": True}, "auth.allow_all is not a key"),
        ({"path": "./auth.py:nobody"}, "no variable 'nobody'"),
        ({"path": "./auth.py:other"}, "is a int, not a langgraph_sdk.Auth"),
        ({"path": "./auth.py:empty"}, "decorate a function with @auth.authenticate"),
        ({"path": "./auth.py:asks"}, "authenticate asks for 'token'"),
        ({"path": "./missing.py:auth"}, "does not exist"),
        ({"path": "./auth.py:auth", "openapi": []}, "auth.openapi .* must be an object"),
    ],
    ids=str,
)
def test_what_cannot_be_honoured_is_refused_at_the_start(tmp_path: Path, block: Any, why: str) -> None:
    (tmp_path / "auth.py").write_text(FILE)
    with pytest.raises(ConfigError, match=why):
        Authority.load(Graphs({}, parse({"auth": block}), tmp_path))


def test_an_auth_is_loaded_only_if_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "named.py").write_text(FILE)
    assert Authority.load(Graphs({}, parse({}), tmp_path)) is None
    found = Authority.load(Graphs({}, parse({"auth": {"path": "./named.py:auth"}}), tmp_path))
    assert found is not None
    assert found.asks_for == {"authorization"}
