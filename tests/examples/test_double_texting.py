"""The examples of double texting do what they say, at the pace of a person, against a live server."""

import asyncio
import runpy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from langchain_core.messages import BaseMessage

from tests.stack import Stack

EXAMPLES = Path(__file__).parents[2] / "examples" / "double_texting"
STRATEGIES = ("interrupt", "rollback", "reject", "enqueue")

TURN = ["human", "ai", "tool", "ai"]
"""A question that was answered: the model asked for a search, read what it found, and replied."""

Outcome = asyncio.Task[dict[str, Any]]


@pytest_asyncio.fixture(scope="module")
async def outcomes(weather: Stack) -> AsyncIterator[dict[str, Outcome]]:
    """Run every example at once, because each takes as long as a person's conversation does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DURATHREAD_URL", weather.url)
        tasks = {
            name: asyncio.create_task(runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]()) for name in STRATEGIES
        }
        # Each reads the address before its first await, so the environment may go back once all have started.
        await asyncio.sleep(0)
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


def kinds(messages: list[BaseMessage]) -> list[str]:
    """Name who wrote each message."""
    return [m.type for m in messages]


def questions(messages: list[BaseMessage]) -> list[str]:
    """Return what the person asked."""
    return [str(m.content) for m in messages if m.type == "human"]


async def test_interrupt_keeps_the_partial_data_of_the_first_run_and_adds_the_data_of_the_second(
    outcomes: dict[str, Outcome],
) -> None:
    outcome = await asyncio.wait_for(outcomes["interrupt"], 60)
    messages: list[BaseMessage] = outcome["messages"]
    assert outcome["first"] == "interrupted"
    assert outcome["second"] == "success"
    assert questions(messages) == ["what's the weather in sf?", "what's the weather in nyc?"]
    partial = len(messages) - len(TURN)
    # On a machine under load, two seconds may not be enough for the search as well.
    assert kinds(messages[:partial]) in (TURN[:1], TURN[:2], TURN[:3])
    assert kinds(messages[partial:]) == TURN
    assert "New York City" in str(messages[-1].content)
    assert "Here is what I found about the weather in San Francisco" not in "".join(str(m.content) for m in messages)


async def test_rollback_leaves_no_trace_of_the_first_run(outcomes: dict[str, Outcome]) -> None:
    outcome = await asyncio.wait_for(outcomes["rollback"], 60)
    messages: list[BaseMessage] = outcome["messages"]
    assert outcome["first"] == "not found"
    assert outcome["second"] == "success"
    assert questions(messages) == ["what's the weather in nyc?"]
    assert kinds(messages) == TURN
    assert "San Francisco" not in "".join(str(m.content) for m in messages)


async def test_reject_refuses_the_second_run_and_leaves_the_first_alone(outcomes: dict[str, Outcome]) -> None:
    outcome = await asyncio.wait_for(outcomes["reject"], 60)
    messages: list[BaseMessage] = outcome["messages"]
    assert outcome["refused"] == 409
    assert outcome["first"] == "success"
    assert outcome["runs"] == 1
    assert questions(messages) == ["what's the weather in sf?"]
    assert kinds(messages) == TURN
    assert "San Francisco" in str(messages[-1].content)


async def test_enqueue_answers_both_in_the_order_asked(outcomes: dict[str, Outcome]) -> None:
    outcome = await asyncio.wait_for(outcomes["enqueue"], 60)
    messages: list[BaseMessage] = outcome["messages"]
    assert outcome["first"] == "success"
    assert outcome["second"] == "success"
    assert questions(messages) == ["what's the weather in sf?", "what's the weather in nyc?"]
    assert kinds(messages) == TURN + TURN
    assert "San Francisco" in str(messages[3].content)
    assert "New York City" in str(messages[7].content)
