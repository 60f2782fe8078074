"""Health, facts, and the description of the API."""

from typing import Any

import httpx

from tests.stack import Stack


async def answer_of(server: Stack, path: str) -> Any:
    """Get a path."""
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.get(path)
    assert answer.status_code == 200
    return answer.json()


async def test_the_server_says_that_it_is_well(server: Stack) -> None:
    assert await answer_of(server, "/") == {"ok": True}
    for path in ("/ok", "/ok?check_db=0", "/ok?check_db=1"):
        assert await answer_of(server, path) == {"ok": True, "services": {}}


async def test_the_server_says_what_it_is(server: Stack) -> None:
    info = await answer_of(server, "/info")
    # Studio refuses servers that name an older version.
    assert tuple(int(part) for part in info["version"].split(".")) >= (0, 4, 35)
    assert info["flags"]["assistants"] is True
    assert info["host"] == {}
    assert {"durathread_version", "langgraph_py_version"} < set(info)


async def test_openapi_describes_every_answer(server: Stack) -> None:
    described = await answer_of(server, "/openapi.json")
    for path in ("/assistants", "/threads/search", "/threads/{thread_id}/state", "/threads/{thread_id}/history"):
        for operation in described["paths"][path].values():
            assert operation["summary"]
            assert operation["responses"]["200"]["content"]["application/json"]["schema"]
            assert operation["responses"]["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")


async def test_head_answers_wherever_get_does_also_for_what_never_ends(server: Stack) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=5) as http:
        thread = (await http.post("/threads", json={})).json()["thread_id"]
        for path in ("/ok", f"/threads/{thread}", f"/threads/{thread}/stream"):
            response = await http.head(path)
            assert (response.status_code, response.content) == (200, b"")
        assert (await http.head("/nowhere")).status_code == 404
