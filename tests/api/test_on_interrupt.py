"""Who says whether a run repairs what was cut off before it: the run, its assistant, langgraph.json; and that nobody says nonsense."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from durathread.config.langgraph_json import parse
from durathread.errors import ConfigError
from durathread.records import ON_INTERRUPT, Assistant
from durathread.runs.policies import terms_of
from durathread.runs.request import RunCreate, prepare
from tests.stack import Stack

# A graph's own, of the same name.
OWN: Any = {"configurable": {"on_interrupt": "ask_user"}}
NOW = datetime.now(UTC)
ASSISTANT = Assistant(uuid4(), "agent", "agent", None, {}, {}, {}, 1, NOW, NOW)


def saying(word: str | None) -> Any:
    return {"configurable": {"on_interrupt": word}} if word else {}


@pytest.mark.parametrize(("run", "assistant", "server"), [*product(*[(None, *ON_INTERRUPT)] * 3)])
def test_a_run_wins_over_its_assistant_which_wins_over_langgraph_json(
    run: str | None, assistant: str | None, server: str | None
) -> None:
    terms = terms_of(parse({"on_interrupt": server} if server else {}))
    body = RunCreate.model_validate({"assistant_id": "agent", "config": saying(run)})
    new = prepare(body, replace(ASSISTANT, config=saying(assistant)), terms=terms, thread_id=uuid4())
    assert new.options.on_interrupt == (run or assistant or server or "keep")


def test_it_may_stand_beside_a_context_and_is_no_part_of_it() -> None:
    given = {"assistant_id": "agent", "config": saying("repair"), "context": {"model": "m"}}
    new = prepare(RunCreate.model_validate(given), ASSISTANT, terms=terms_of(parse({})), thread_id=uuid4())
    assert (new.options.on_interrupt, new.options.context) == ("repair", {"model": "m"})
    alone = RunCreate.model_validate({"assistant_id": "agent", "on_interrupt": "repair"})
    assert prepare(alone, ASSISTANT, terms=terms_of(parse({})), thread_id=uuid4()).options.context == {}


def test_a_graph_may_have_a_key_of_that_name_for_itself() -> None:
    given = {"assistant_id": "agent", "config": OWN}
    terms = terms_of(parse({"on_interrupt": "repair"}))
    options = prepare(RunCreate.model_validate(given), ASSISTANT, terms=terms, thread_id=uuid4()).options
    assert options.on_interrupt == "repair"
    assert options.config["configurable"]["on_interrupt"] == "ask_user"
    assert options.context == OWN["configurable"]


def test_langgraph_json_may_not_say_anything_else() -> None:
    for wrong in ("mend", True, ["repair"]):
        with pytest.raises(ConfigError, match="on_interrupt"):
            terms_of(parse({"on_interrupt": wrong}))


async def test_an_assistant_says_it_beside_a_context_and_a_body_says_nothing_else(
    client: LangGraphClient, server: Stack
) -> None:
    assistant = await client.assistants.create("agent", config=saying("repair"), context={"model": "m"})
    assert assistant["config"] == {"configurable": {"model": "m", "on_interrupt": "repair"}}
    own = await client.assistants.create("agent", config=OWN)
    assert own["context"] == OWN["configurable"]
    async with httpx.AsyncClient(base_url=server.url) as http:
        refused = await http.post("/runs/wait", json={"assistant_id": "agent", "on_interrupt": "mend"})
    assert refused.status_code == 422
    run: Any = await client.runs.create(None, assistant["assistant_id"], input={"log": []})
    assert run["kwargs"]["on_interrupt"] == "repair"
