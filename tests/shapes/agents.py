"""Shapes whose graph is one agent, or several that hand over to each other."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from langgraph_sdk.client import LangGraphClient

from tests.providers.conversation import Asked, Call, Reply
from tests.shapes.serving import Served
from tests.shapes.shape import Failure, Shape, answer, looks_up, place_in, question, spoken


def said(text: str) -> Any:
    """Say something."""
    return {"messages": [{"role": "user", "content": text}]}


async def has_a_context(server: Served) -> None:
    """Its context has defaults, which a client, an assistant or the environment may change."""
    async with server.client() as client:
        asked = server.endpoint.asked
        for context, model in ((None, "gpt-4o-mini"), ({}, "gpt-4o-mini"), ({"model": "openai/gpt-4o"}, "gpt-4o")):
            del asked[:]
            values: Any = await client.runs.wait(None, "agent", input=said(question("Oslo")), context=context)
            assert spoken(values) == [question("Oslo"), answer("Oslo")]
            assert {each.model for each in asked} == {model}
        pirate = await client.assistants.create("agent", context={"system_prompt": "You are a pirate. It is {now}."})
        del asked[:]
        await client.runs.wait(None, pirate["assistant_id"], input=said(question("Rome")))
        assert all(each.system.startswith("You are a pirate. It is 2") for each in asked)
        schemas = await client.assistants.get_schemas(pirate["assistant_id"])
        context_schema: Any = schemas["context_schema"]
        assert context_schema["properties"]["model"]["default"] == "openai/gpt-4o-mini"
        [assistant] = await client.assistants.search(metadata={"created_by": "system"})
        assert (assistant["name"], assistant["description"]) == ("ReAct Agent", "Looks up what the weather is like.")


REACT = Shape(
    name="react_agent",
    graph="agent",
    script=looks_up("search", "query"),
    failure=Failure("KeyError", "tools.py", "CLIMATES[query.lower()]", node="tools"),
    own=has_a_context,
    with_dev=True,
)


def remembers(asked: Asked) -> Reply:
    """Note where somebody lives; say where that is, if it is known."""
    if "where" in asked.question:
        return Reply(f"I know of {place_in(asked.system)}.")
    place = place_in(asked.question)
    note = Call("upsert_memory", {"content": f"Lives in {place}.", "context": "Said so."})
    return Reply(answer(place)) if asked.results else Reply(calls=(note,))


async def knows_its_users(server: Served) -> None:
    """What a user has said on one thread is found on another, by what it means; what others have said is not."""
    async with server.client() as client:
        ada, bob = uuid4().hex, uuid4().hex
        await client.runs.wait(None, "memory_agent", input=said("I am in Lima"), context={"user_id": ada})
        await client.runs.wait(
            None, "memory_agent", input=said("I am in Oslo"), config={"configurable": {"user_id": bob}}
        )
        for user, place in ((ada, "Lima"), (bob, "Oslo")):
            values: Any = await client.runs.wait(
                None, "memory_agent", input=said("Say where I live"), config={"configurable": {"user_id": user}}
            )
            assert spoken(values)[-1] == f"I know of {place}."
        [found] = (await client.store.search_items(("memories", ada), query="who lives in Lima?"))["items"]
        assert found["value"]["content"] == "Lives in Lima."
        assert (found.get("score") or 0) > 0.3
        assert "Lives in Lima." in server.endpoint.embedded


MEMORY = Shape(
    name="memory_agent",
    graph="memory_agent",
    script=remembers,
    failure=Failure("ValueError", "tools.py", "raise ValueError", node="store_memory"),
    own=knows_its_users,
)


def led(asked: Asked) -> Reply:
    """Hand over to the researcher, and sum up what it has found."""
    place = place_in(asked.question)
    if "look_up" in asked.tools:
        looked = not asked.results[-1].startswith("It is up to")
        return Reply(f"Found {place}.") if looked else Reply(calls=(Call("look_up", {"place": place}),))
    if any(each.text.startswith("Found") for each in asked.since):
        return Reply(answer(place))
    return Reply(calls=(Call("transfer_to_researcher", {}),))


def researcher_has_looked(asked: Asked) -> bool:
    """Whether the researcher is about to report."""
    return "look_up" in asked.tools and len(asked.results) == 2


def by_supervisor(values: Any) -> list[str]:
    """List what people have asked and the supervisor has answered."""
    return spoken(values, by="supervisor")


async def hands_over(server: Served) -> None:
    """Each agent is a subgraph, whose stream is told apart, and which is drawn."""
    async with server.client() as client:
        namespaces: set[str] = set()
        stream = client.runs.stream(
            None, "supervisor", input=said(question("Lima")), stream_mode="messages-tuple", stream_subgraphs=True
        )
        async for part in stream:
            namespaces.add(part.event.partition("|")[2].partition(":")[0])
        assert {"supervisor", "researcher"} <= namespaces
        drawing = await client.assistants.get_graph("supervisor")
        assert {node["id"] for node in drawing["nodes"]} >= {"supervisor", "researcher", "writer"}


SUPERVISOR = Shape(
    name="supervisor",
    graph="supervisor",
    script=led,
    failure=Failure("KeyError", "tools.py", "return NOTES[place]", node="researcher:tools"),
    own=hands_over,
    held=researcher_has_looked,
    told=by_supervisor,
)


def books(asked: Asked) -> Reply:
    """Search a flight; hand over for a hotel, and search that."""
    place = place_in(asked.question)
    if "hotel" not in asked.question:
        if "search_flights" not in asked.tools:
            return Reply("I only know hotels.")
        return Reply(answer(place)) if asked.results else Reply(calls=(Call("search_flights", {"destination": place}),))
    if "transfer_to_hotel_assistant" in asked.tools:
        return Reply("One moment.", calls=(Call("transfer_to_hotel_assistant", {}),))
    if any("Grand Hotel" in result for result in asked.results):
        return Reply(f"A hotel in {place}.")
    return Reply(calls=(Call("search_hotels", {"location": place}),))


async def stays_with_the_agent(server: Served) -> None:
    """The conversation goes on with the agent that it was handed to."""
    async with server.client() as client:
        thread = (await client.threads.create())["thread_id"]
        values: Any = await client.runs.wait(thread, "swarm", input=said("A hotel in Rome, please"))
        assert (values["active_agent"], spoken(values)[-1]) == ("hotel_assistant", "A hotel in Rome.")
        values = await client.runs.wait(thread, "swarm", input=said("And a flight to Oslo?"))
        assert spoken(values)[-1] == "I only know hotels."
        assert len({message["id"] for message in values["messages"]}) == len(values["messages"])
        # The checkpointer that the project has brought is not what keeps this.
        assert "checkpointer" in server.log()


SWARM = Shape(
    name="swarm",
    graph="swarm",
    script=books,
    failure=Failure("RuntimeError", "tools.py", "raise RuntimeError", node="flight_assistant:tools"),
    own=stays_with_the_agent,
)


def delegates(asked: Asked) -> Reply:
    """Note what is to be done, hand it to a subagent, keep what that reports, and answer."""
    place = place_in(asked.question)
    if "survey" in asked.tools:
        return Reply(f"A report on {place}.") if asked.results else Reply(calls=(Call("survey", {"place": place}),))
    todo = {"content": "Report", "status": "in_progress"}
    steps = (
        Call("write_todos", {"todos": [todo]}),
        Call("task", {"description": f"Survey {place}."}),
        Call("write_file", {"path": f"{place}.md", "content": f"# {place}"}),
        Call("write_todos", {"todos": [{**todo, "status": "completed"}]}),
    )
    done = len(asked.results)
    if "for ever" in asked.question:
        return Reply(calls=steps[:1])
    if done < len(steps):
        return Reply(calls=(steps[done],))
    return Reply("Write to mayor@lima.example." if "mayor" in asked.question else answer(place))


def subagent_has_looked(asked: Asked) -> bool:
    """Whether the subagent is about to report."""
    return "survey" in asked.tools and bool(asked.results)


async def keeps_files_and_secrets(server: Served) -> None:
    """Files and todos are state; progress is told on a channel of its own; what is secret is redacted in every stream."""
    async with server.client() as client:
        thread = (await client.threads.create())["thread_id"]
        told: list[Any] = []
        async for part in client.runs.stream(
            thread,
            "deep",
            input=said("Who is the mayor of Lima?"),
            stream_mode=["values", "messages-tuple", "updates"],
            stream_subgraphs=True,
        ):
            told.append((part.event, part.data))
        state: Any = (await client.threads.get_state(thread))["values"]
        assert state["files"] == {"Lima.md": "# Lima"}
        assert state["todos"] == [{"content": "Report", "status": "completed"}]
        assert spoken(state)[-1] == "Write to [REDACTED_EMAIL]."
        assert "mayor@lima" not in str([data for event, data in told if not event.startswith("updates")])
        stream: Any = client.threads.stream(assistant_id="deep")
        async with stream as streamed, asyncio.timeout(60):
            await streamed.run.start(input=said("Who is the mayor of Lima?"))
            texts, progress = await asyncio.gather(
                collected(streamed.messages, lambda message: message.text), collected(streamed.extensions["progress"])
            )
        assert str(texts[-1]) == "Write to [REDACTED_EMAIL]."
        assert progress[-1]["payload"] == {"done": 1, "of": 1}
        await stops_what_never_ends(client, server)


async def stops_what_never_ends(client: LangGraphClient, server: Served) -> None:
    """A limit of a run's calls of the model counts those of all its steps, and of no other run."""
    thread = (await client.threads.create())["thread_id"]
    for _ in range(2):
        del server.endpoint.asked[:]
        values: Any = await client.runs.wait(thread, "deep", input=said("Plan Lima for ever"))
        assert len(server.endpoint.asked) == 8
        assert "Model call limits exceeded" in values["messages"][-1]["content"]


async def collected(source: Any, of: Callable[[Any], Any] = lambda item: item) -> list[Any]:
    """Read a projection to its end."""
    found = [of(item) async for item in source]
    return [await item if inspect.isawaitable(item) else item for item in found]


DEEP = Shape(
    name="deep_agent",
    graph="deep",
    script=delegates,
    failure=Failure("KeyError", "subagents.py", "return REPORTS[place]", node="tools"),
    own=keeps_files_and_secrets,
    held=subagent_has_looked,
)


def operates(asked: Asked) -> Reply:
    """Look a code up, if there is a directory."""
    return looks_up("dialling_code", "place")(asked) if asked.tools else Reply(f"I am {asked.model}.")


async def is_built_for_each_access(server: Served) -> None:
    """Each of the factories is given what its parameters name: a runtime, a config."""
    async with server.client() as client:
        for graph in ("runtime", "lent"):
            values: Any = await client.runs.wait(None, graph, input=said(question("Rome")))
            assert spoken(values) == [question("Rome"), answer("Rome")]
        del server.endpoint.asked[:]
        await client.runs.wait(None, "runtime", input=said(question("Rome")), context={"tone": "verbose"})
        assert {each.system for each in server.endpoint.asked} == {"You are an operator. Be verbose."}
        values = await client.runs.wait(
            None, "configured", input=said("Who are you?"), config={"configurable": {"model": "gpt-4.1-nano"}}
        )
        assert spoken(values)[-1] == "I am gpt-4.1-nano."
        for graph in ("runtime", "configured", "lent"):
            assert (await client.assistants.get_graph(graph))["nodes"]
        thread = (await client.threads.create())["thread_id"]
        await client.runs.wait(thread, "runtime", input=said(question("Rome")))
        await client.threads.update_state(thread, said("Never mind."), as_node="model")
        state: Any = await client.threads.get_state(thread)
        assert (spoken(state["values"])[-1], state["next"]) == ("Never mind.", [])


FACTORY = Shape(
    name="factory",
    graph="runtime",
    script=operates,
    failure=Failure("KeyError", "phones.py", "return CODES[place]", node="tools"),
    own=is_built_for_each_access,
    writes_env=False,
)

AGENTS = (REACT, MEMORY, SUPERVISOR, SWARM, DEEP, FACTORY)
