"""A second message while the bookseller answers: each strategy does on the page what it does on the server."""

from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError
from playwright.async_api import expect

from tests.browser.page import ChatPage

STORY, WHALES = "Tell me a story", "What do you have about whales?"


async def contents(api: LangGraphClient, thread_id: str) -> list[str]:
    """Read what the messages of a thread say."""
    state: Any = await api.threads.get_state(thread_id)
    return [message["content"] for message in state["values"]["messages"]]


async def statuses(api: LangGraphClient, thread_id: str) -> list[str]:
    """List the statuses of a thread's runs, oldest first."""
    return [run["status"] for run in reversed(await api.runs.list(thread_id))]


async def test_a_message_waits_for_its_turn(chat: ChatPage, api: LangGraphClient) -> None:
    await chat.say(STORY)
    await chat.answering()
    await chat.say(WHALES, "Wait")
    await expect(chat.waiting).to_contain_text([WHALES])
    await chat.shoot("while a message waits")
    assert await statuses(api, chat.thread_id) == ["running", "pending"]
    await expect(chat.answers.last).to_contain_text("Moby-Dick (2 left)")
    await chat.idle()
    await expect(chat.waiting).to_have_count(0)
    await expect(chat.questions).to_have_text([STORY, WHALES])
    assert await statuses(api, chat.thread_id) == ["success", "success"]
    assert [text for text in await contents(api, chat.thread_id) if text in (STORY, WHALES)] == [STORY, WHALES]


async def test_a_waiting_message_is_withdrawn(chat: ChatPage, api: LangGraphClient) -> None:
    await chat.say(STORY)
    await chat.answering()
    await chat.say(WHALES, "Wait")
    await chat.say("Hello", "Wait")
    await expect(chat.waiting).to_have_count(2)
    queued = (await api.runs.list(chat.thread_id, status="pending"))[1]["run_id"]
    await chat.page.get_by_role("button", name=f"Cancel “{WHALES}”").click()
    await expect(chat.waiting).to_have_count(1)
    with pytest.raises(NotFoundError):
        await api.runs.get(chat.thread_id, queued)
    await expect(chat.questions).to_have_text([STORY, "Hello"])
    await chat.idle()
    assert WHALES not in await contents(api, chat.thread_id)


async def test_an_interrupted_answer_stays_and_is_marked(chat: ChatPage, api: LangGraphClient) -> None:
    await chat.say(STORY)
    partial = await chat.answering()
    await chat.say(WHALES, "Interrupt")
    await expect(chat.interrupted).to_have_count(1)
    await expect(chat.answers.last).to_contain_text("Moby-Dick (2 left)")
    await chat.idle()
    for _ in range(2):
        await expect(chat.interrupted).to_contain_text(partial)
        await expect(chat.interrupted).to_contain_text("Interrupted")
        await expect(chat.questions).to_have_text([STORY, WHALES])
        texts = await chat.page.get_by_role("log").inner_text()
        assert texts.index(STORY) < texts.index(partial[:80]) < texts.index(WHALES)
        await chat.page.reload()
    assert await statuses(api, chat.thread_id) == ["interrupted", "success"]
    assert (await contents(api, chat.thread_id))[:2] == [STORY, WHALES]


async def test_a_queued_message_that_is_interrupted_is_shown_as_unanswered(
    chat: ChatPage, api: LangGraphClient
) -> None:
    await chat.say(STORY)
    await chat.answering()
    await chat.say("Hello", "Wait")
    await expect(chat.waiting).to_have_count(1)
    await chat.say(WHALES, "Interrupt")
    await expect(chat.answers.last).to_contain_text("Moby-Dick (2 left)")
    await chat.idle()
    await expect(chat.questions).to_have_text([STORY, "Hello", WHALES])
    await expect(chat.page.locator("[data-note='never begun']")).to_contain_text("Interrupted before it was answered")
    assert await statuses(api, chat.thread_id) == ["interrupted", "interrupted", "success"]


async def test_a_rolled_back_answer_disappears_with_its_question(chat: ChatPage, api: LangGraphClient) -> None:
    # The client library asks what has become of the run, which is gone.
    chat.expected = (*chat.expected, "404 (Not Found)")
    await chat.say(STORY)
    await chat.answering()
    await chat.say(WHALES, "Roll back")
    await expect(chat.answers.last).to_contain_text("Moby-Dick (2 left)")
    await chat.idle()
    await expect(chat.questions).to_have_text([WHALES])
    await expect(chat.interrupted).to_have_count(0)
    assert "bookshop at the end" not in await chat.page.get_by_role("log").inner_text()
    assert await statuses(api, chat.thread_id) == ["success"]
    assert STORY not in await contents(api, chat.thread_id)


async def test_a_rejected_message_stays_in_the_composer(chat: ChatPage, api: LangGraphClient) -> None:
    await chat.say(STORY)
    await chat.answering()
    await chat.say(WHALES, "Reject")
    await expect(chat.page.get_by_role("alert")).to_contain_text("Not sent: the bookseller is still answering.")
    await expect(chat.composer).to_have_value(WHALES)
    await chat.shoot("while a message is rejected")
    # The answer may be through by now; the message that was refused is no run.
    assert len(await statuses(api, chat.thread_id)) == 1
    await chat.idle()
    await chat.composer.press("Enter")
    await expect(chat.answers.last).to_contain_text("Moby-Dick (2 left)")
    await chat.idle()
    assert await statuses(api, chat.thread_id) == ["success", "success"]


@pytest.mark.parametrize("way", ["button", "key"])
async def test_an_answer_is_stopped(chat: ChatPage, api: LangGraphClient, way: str) -> None:
    await chat.say(STORY)
    partial = await chat.answering()
    await (chat.stop.click() if way == "button" else chat.page.keyboard.press("Escape"))
    await expect(chat.interrupted).to_contain_text(partial)
    await chat.idle()
    await expect(chat.stop).to_be_hidden()
    assert await statuses(api, chat.thread_id) == ["interrupted"]
    assert await contents(api, chat.thread_id) == [STORY]
    await chat.say("Hello")
    await expect(chat.answers.last).to_contain_text("Good day!")
    await expect(chat.interrupted).to_contain_text(partial)
