"""Shapes that are no agents of LangChain's, and one that has an app beside it."""

import json
from typing import Any

import httpx
import pytest
from langgraph_sdk.errors import AuthenticationError, NotFoundError

from tests.providers.conversation import Asked, Call, Reply
from tests.shapes.agents import said
from tests.shapes.serving import Served
from tests.shapes.shape import Failure, Shape, answer, looks_up, place_in, question, spoken


def cuts(asked: Asked) -> Reply:
    """Cut a subject in three, write about each, and pick the second."""
    place = place_in(asked.question)
    if asked.schema == "Parts":
        return Reply(json.dumps({"parts": ["north", "middle", "south"]}))
    if asked.schema == "Best":
        return Reply(json.dumps({"number": 1}))
    return Reply(answer(place))


def writes_of_the_middle(asked: Asked) -> bool:
    """Whether the second of three that are written beside each other is asked for."""
    return "the middle of" in asked.question


def by_place(place: str) -> Any:
    """Give a place."""
    return {"place": place}


def told_of(values: Any) -> list[str]:
    """List the places and their texts."""
    told = values.get("told", [])
    return [text if number % 2 else question(text) for number, text in enumerate(told)]


async def writes_beside_each_other(server: Served) -> None:
    """Three branches are at work at once, each with a task of its own."""
    async with server.client() as client:
        thread = (await client.threads.create())["thread_id"]
        with server.endpoint.holding(lambda asked: asked.question.startswith("Write about")) as gate:
            run = await client.runs.create(thread, "map_reduce", input=by_place("Lima"))
            await gate.entered(3)
            state: Any = await client.threads.get_state(thread)
            assert state["next"] == ["write"] * 3
            gate.open()
            await client.runs.join(thread, run["run_id"])
        state = await client.threads.get_state(thread)
        assert len(state["values"]["texts"]) == 3


MAP_REDUCE = Shape(
    name="map_reduce",
    graph="map_reduce",
    script=cuts,
    failure=Failure("KeyError", "graph.py", 'POPULATION[state["place"]]', node="write"),
    own=writes_beside_each_other,
    held=writes_of_the_middle,
    given=by_place,
    told=told_of,
    keeps_question=False,
    is_chat=False,
)


async def saves_what_it_says(server: Served) -> None:
    """What it saves is what it finds the next time; a run that returned nothing has saved nothing."""
    async with server.client() as client:
        thread = (await client.threads.create())["thread_id"]
        for place in ("Oslo", "Rome"):
            values: Any = await client.runs.wait(thread, "functional", input=said(question(place)))
        assert spoken(values) == [question("Oslo"), answer("Oslo"), question("Rome"), answer("Rome")]
        updates = [
            part.data
            async for part in client.runs.stream(
                thread, "functional", input=said(question("Lima")), stream_mode="updates"
            )
            if part.event == "updates"
        ]
        assert [node for update in updates for node in update] == ["call_model", "call_tool", "call_model", "agent"]


ENTRYPOINT = Shape(
    name="entrypoint",
    graph="functional",
    script=looks_up("currency", "place"),
    failure=Failure("LookupError", "lookup.py", "raise LookupError", node="agent"),
    own=saves_what_it_says,
    keeps_question=False,
)


def reads(asked: Asked) -> Reply:
    """Search the documents, find them good unless it is asked for mars, and answer from them."""
    place = place_in(asked.question)
    if asked.schema == "Grade":
        return Reply(json.dumps({"relevant": "no" if "sea'" in asked.question else "yes"}))
    if asked.question.startswith("Answer"):
        return Reply(answer(place))
    query = "Lima" if "other words" in asked.question else place or "sea"
    return Reply(calls=(Call("retrieve", {"query": f"Where is {query}?"}),))


def is_to_generate(asked: Asked) -> bool:
    """Whether it is to answer from what was found."""
    return asked.question.startswith("Answer")


async def builds_its_index_once(server: Served) -> None:
    """The index is built by the first question and kept; documents travel as artifacts."""
    async with server.client() as client:
        del server.endpoint.embedded[:]
        values: Any = await client.runs.wait(None, "rag", input=said(question("Rome")))
        assert server.endpoint.embedded in (["Where is Rome?"], [*_documents(server), "Where is Rome?"])
        [found] = [message for message in values["messages"] if message["type"] == "tool"]
        assert found["content"].startswith("Rome lies on a river")
        assert found["artifact"][0]["metadata"] == {"source": "rome.txt"}
        assert "copy its example" in server.log()


def _documents(server: Served) -> list[str]:
    return [path.read_text() for path in sorted(server.folder.rglob("documents/*.txt"))]


def refuses_atlantis(server: Served) -> None:
    """Have the provider refuse to embed it."""
    server.endpoint.refused.add("Atlantis")


RAG = Shape(
    name="rag",
    graph="rag",
    script=reads,
    failure=Failure("BadRequestError", "index.py", "self.embeddings.embed_query(query)", node="retrieve"),
    own=builds_its_index_once,
    held=is_to_generate,
    writes_env=False,
    before=refuses_atlantis,
)


def drafts(asked: Asked) -> Reply:
    """Find an address; write to it, if asked to, and say what has become of that."""
    place = place_in(asked.question)
    if not asked.results:
        return Reply("Let me see.", calls=(Call("find_address", {"place": place}),))
    if "Write" not in asked.question:
        return Reply(answer(place))
    if asked.results[-1].startswith(("Sent", "The user says")):
        return Reply(asked.results[-1])
    return Reply(calls=(Call("send_email", {"to": asked.results[-1], "content": f"Hello {place}"}),))


async def asks_first(server: Served) -> None:
    """A question is what an inbox shows, and each of its answers does what it says."""
    sent = "Sent to harbour@oslo.example: "
    outcomes: Any = {
        "accept": ({"type": "accept", "args": None}, f"{sent}Hello Oslo"),
        "edit": (
            {
                "type": "edit",
                "args": {"action": "send_email", "args": {"to": "harbour@oslo.example", "content": "Ahoy"}},
            },
            f"{sent}Ahoy",
        ),
        "response": ({"type": "response", "args": "Be polite"}, "The user says: Be polite"),
        "ignore": ({"type": "ignore", "args": None}, None),
    }
    async with server.client() as client:
        for response, outcome in outcomes.values():
            thread = (await client.threads.create())["thread_id"]
            await client.runs.wait(thread, "inbox", input=said("Write to Oslo"))
            # As the inbox finds its threads.
            [waiting] = [
                each
                for each in await client.threads.search(status="interrupted", metadata={"graph_id": "inbox"})
                if each["thread_id"] == thread
            ]
            [[asked]] = waiting["interrupts"].values()
            request: Any = asked["value"][0]
            assert request["action_request"]["action"] == "send_email"
            assert request["config"]["allow_edit"] is True
            state: Any = await client.threads.get_state(thread)
            assert state["tasks"][0]["interrupts"][0]["value"] == asked["value"]
            values: Any = await client.runs.wait(thread, "inbox", command={"resume": [response]})
            assert (await client.threads.get(thread))["status"] == "idle"
            if outcome:
                assert spoken(values)[-1] == outcome
            else:
                assert values["messages"][-1]["content"] == "Not sent."


INBOX = Shape(
    name="inbox",
    graph="inbox",
    script=drafts,
    failure=Failure("AssertionError", "tools.py", "assert address", node="find"),
    own=asks_first,
)


def greets(asked: Asked) -> Reply:
    """Greet, or look hours up."""
    if "Greet" in asked.question:
        return Reply(f"Hello {place_in(asked.question)}.")
    return looks_up("opening_hours", "place")(asked)


ADA = {"Authorization": "Bearer key-of-ada"}
BOB = {"Authorization": "Bearer key-of-bob"}


async def has_an_app_beside(server: Served) -> None:
    """The app's routes, lifespan and middleware are there, and the server's routes are each user's own."""
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        assert (await http.get("/offices/Oslo")).json() == {"place": "Oslo", "hours": "8 to 16"}
        assert (await http.get("/offices/Atlantis")).json() == {"detail": "no office in Atlantis"}
        assert (await http.post("/ask", json={"place": "Lima", "hours": ""})).json() == {"said": "Hello Lima."}
        assert (await http.get("/offices/Oslo")).headers["x-front-desk"] == "yes"
        assert {"/ask", "/threads/{thread_id}/runs"} <= (await http.get("/openapi.json")).json()["paths"].keys()
        origin = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
        allowed = (await http.options("/threads", headers=origin)).headers
        assert allowed["access-control-allow-origin"] == "http://localhost:3000"
    async with server.client() as ada, server.client(BOB) as bob, server.client({"Authorization": "nobody"}) as nobody:
        thread = (await ada.threads.create())["thread_id"]
        values: Any = await ada.runs.wait(thread, "assistant", input=said(question("Oslo")))
        [found] = [message for message in values["messages"] if message["type"] == "tool"]
        assert found["content"] == "8 to 16 for ada"
        with pytest.raises(NotFoundError):
            await bob.threads.get(thread)
        with pytest.raises(NotFoundError):
            await bob.runs.create(thread, "assistant", input=said(question("Oslo")))
        with pytest.raises(AuthenticationError):
            await nobody.threads.search()


CUSTOM_APP = Shape(
    name="custom_app",
    graph="assistant",
    script=greets,
    failure=Failure("KeyError", "assistant.py", "HOURS[place]", node="tools"),
    own=has_an_app_beside,
    headers=ADA,
)

OTHERS = (MAP_REDUCE, ENTRYPOINT, RAG, INBOX, CUSTOM_APP)
