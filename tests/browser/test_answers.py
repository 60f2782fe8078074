"""Answers on the page are what the model wrote: token by token, once, also when something goes wrong meanwhile."""

import asyncio
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from playwright.async_api import Browser, expect

from tests.browser.conftest import CHAT, opened
from tests.browser.page import ChatPage
from tests.eventually import eventually
from tests.stack import Stack


@pytest.fixture(scope="module")
def story() -> Iterator[str]:
    """What the model tells when it is asked for a story."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(CHAT))
        yield importlib.import_module("bookseller").STORY
        sys.modules.pop("bookseller")


async def last_message(api: LangGraphClient, thread_id: str) -> Any:
    state: Any = await api.threads.get_state(thread_id)
    return state["values"]["messages"][-1]


def grew(seen: list[str], whole: str) -> bool:
    """Say whether texts are ever longer beginnings of one, up to all of it."""
    return all(whole.startswith(text) for text in seen) and seen == sorted(seen, key=len) and seen[-1] == whole


async def test_an_answer_grows_token_by_token(chat: ChatPage, api: LangGraphClient, story: str) -> None:
    await chat.say("Tell me a story")
    await expect(chat.answers).to_have_text(story)
    await chat.idle()
    seen = await chat.seen()
    assert len(seen) > 30
    assert grew(seen, story)
    assert (await last_message(api, chat.thread_id))["content"] == story
    assert [run["status"] for run in await api.runs.list(chat.thread_id)] == ["success"]


async def test_a_reload_in_the_middle_of_an_answer_loses_and_doubles_nothing(
    chat: ChatPage, api: LangGraphClient, story: str
) -> None:
    await chat.say("Tell me a story")
    for least in (60, 300):
        shown = await chat.answering(least=least)
        assert story.startswith(shown)
        assert all(story.startswith(text) for text in await chat.seen())
        await chat.page.reload()
    await expect(chat.answers).to_have_text(story)
    await chat.idle()
    assert grew(await chat.seen(), story)
    await expect(chat.questions).to_have_text(["Tell me a story"])
    assert [run["status"] for run in await api.runs.list(chat.thread_id)] == ["success"]
    assert (await last_message(api, chat.thread_id))["content"] == story


async def test_two_tabs_on_one_thread_see_the_same(
    chat: ChatPage, browser: Browser, api: LangGraphClient, story: str
) -> None:
    await chat.say("Hello")
    await chat.idle()
    async with opened(browser, chat.page.url) as other:
        await expect(other.answers).to_have_count(1)
        await chat.say("Tell me a story")
        await other.answering(other.answers.nth(1))
        await other.say("What do you have about islands?")
        await expect(chat.waiting).to_have_count(1)
        for tab in (chat, other):
            await expect(tab.answers).to_have_count(4)
            await expect(tab.answers.last).to_contain_text("Treasure Island")
            await tab.idle()
        texts = await chat.page.get_by_role("log").inner_text()
        assert story in texts
        assert await other.page.get_by_role("log").inner_text() == texts
        assert await other.answers.nth(1).inner_text() == story
    assert [run["status"] for run in await api.runs.list(chat.thread_id)] == ["success"] * 3


async def test_a_worker_that_dies_in_the_middle_of_an_answer_leaves_no_doubled_text(
    chat: ChatPage, api: LangGraphClient, bookshop: Stack, story: str
) -> None:
    await chat.say("Tell me a story")
    await chat.answering()
    starts = bookshop.log("worker").count("The worker is ready")
    await bookshop.kill("worker")
    await bookshop.start("worker")
    await bookshop.worker_ready(times=starts + 1)
    await expect(chat.answers.last).to_have_text(story)
    await chat.idle()
    await expect(chat.answers).to_have_text([story])
    assert all(story.startswith(text) for text in await chat.seen())
    assert [run["status"] for run in await api.runs.list(chat.thread_id)] == ["success"]


async def test_an_api_that_is_away_is_missed_and_costs_no_word(
    chat: ChatPage, api: LangGraphClient, bookshop: Stack, story: str
) -> None:
    chat.expected = ("net::ERR_", "Unable to connect to LangGraph server")
    status = chat.page.get_by_role("status")
    await chat.say("Tell me a story")
    await chat.answering()
    await bookshop.kill("api")
    await expect(status).to_contain_text("The server is away.")
    await chat.say("Hello")
    await expect(chat.page.get_by_role("alert")).to_have_text("Not sent: the server cannot be reached. Try again.")
    await expect(chat.composer).to_have_value("Hello")
    await chat.shoot("while the server is away")
    # The page of one who comes now has nothing to show, until there is a server.
    await chat.page.reload()
    await expect(status).to_contain_text("The server is away.")
    await bookshop.start("api")
    await expect(chat.answers).to_have_text([story])
    await chat.idle()
    await expect(status).not_to_contain_text("away")
    await expect(chat.page.get_by_role("navigation").get_by_role("listitem").first).to_be_visible()
    assert [run["status"] for run in await api.runs.list(chat.thread_id)] == ["success"]


async def test_a_failed_run_says_why_and_is_tried_again(chat: ChatPage, api: LangGraphClient) -> None:
    await chat.say("Are you overloaded?")
    failure = chat.page.get_by_role("alert").filter(has_text="The model is overloaded.")
    await expect(failure).to_be_visible()
    assert [run["status"] for run in await api.runs.list(chat.thread_id)] == ["error"]
    await chat.page.reload()
    await expect(failure).to_contain_text("The model is overloaded. Try again in a moment.")
    await chat.shoot("while a failure is shown")
    await chat.page.get_by_role("button", name="Try again").click()
    await expect(chat.answers).to_contain_text("Good day!")
    await chat.idle()
    await expect(failure).to_have_count(0)
    await expect(chat.questions).to_have_text(["Are you overloaded?"])
    assert [run["status"] for run in await api.runs.list(chat.thread_id)] == ["success", "error"]


async def test_an_answer_that_is_not_watched_is_there_when_one_comes_back(
    chat: ChatPage, browser: Browser, api: LangGraphClient, story: str
) -> None:
    await chat.say("Tell me a story")
    await chat.answering()
    await chat.page.goto("about:blank")
    await chat.page.go_back()

    async def over() -> bool:
        return [run["status"] for run in await api.runs.list(chat.thread_id)] == ["success"]

    await asyncio.gather(eventually(over, timeout=30), expect(chat.answers).to_have_text(story))
    async with opened(browser, chat.page.url) as other:
        await expect(other.answers).to_have_text(story)
