"""Who somebody is: what `authenticate` gets, what it may return, and what graphs see of it."""

from typing import Any, cast

from langgraph_sdk.client import LangGraphClient


async def test_a_graph_sees_in_whose_name_it_works(alice: LangGraphClient) -> None:
    values = cast(dict[str, Any], await alice.runs.wait(None, "who", input={}))
    seen = values["seen"]
    user = {
        "identity": "alice",
        "display_name": "Alice",
        "permissions": ["chat"],
        "org": {"name": "acme"},
        "is_authenticated": True,
    }
    assert seen == {
        "user": user,
        "attribute": "alice",
        "key": "alice",
        "runtime": "alice",
        "id": "alice",
        "user_id": "alice",
        "permissions": ["chat"],
    }
