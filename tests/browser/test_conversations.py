"""Questions of the agent, versions of a message, several conversations, and ways to use the page."""

import re
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError
from playwright.async_api import Browser, expect

from tests.browser.conftest import opened
from tests.browser.page import ChatPage
from tests.stack import Stack

ORDER = "Please order 2 copies of Moby-Dick"
SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => list.getEntries().forEach(({ value }) => window.shifts.push(value)))
  .observe({ type: "layout-shift", buffered: true });
"""


async def messages(api: LangGraphClient, thread_id: str) -> list[Any]:
    """Read the messages of a thread."""
    state: Any = await api.threads.get_state(thread_id)
    return state["values"]["messages"]


@pytest.mark.parametrize(
    ("decision", "result", "said"),
    [
        pytest.param("approve", "Ordered 2 × Moby-Dick.", "Done. Ordered 2 × Moby-Dick.", id="approve"),
        pytest.param("edit", "Ordered 5 × Moby-Dick.", "Done. Ordered 5 × Moby-Dick.", id="edit"),
        pytest.param(
            "decline",
            "We have enough whales.",
            "I have not ordered anything. You said: We have enough whales.",
            id="decline",
        ),
    ],
)
async def test_the_call_of_a_tool_is_decided_by_a_person(
    chat: ChatPage, api: LangGraphClient, decision: str, result: str, said: str
) -> None:
    await chat.say(ORDER)
    question = chat.page.get_by_role("form", name="Approve order_books")
    await expect(question.get_by_label("title")).to_have_value("Moby-Dick")
    await chat.shoot("while a person is asked")
    conversation = chat.page.get_by_role("navigation").get_by_role("listitem").first
    await expect(conversation).to_contain_text("asks you")
    assert (await api.threads.get(chat.thread_id))["status"] == "interrupted"
    await chat.page.reload()
    if decision == "edit":
        await question.get_by_label("copies").fill("5")
        await question.get_by_role("button", name="Approve with changes").click()
    elif decision == "decline":
        await question.get_by_label("why").fill("We have enough whales.")
        await question.get_by_role("button", name="Decline").click()
    else:
        await question.get_by_role("button", name="Approve", exact=True).click()
    await expect(chat.answers.last).to_contain_text(said)
    await chat.idle()
    await expect(question).to_have_count(0)
    await expect(chat.composer).to_be_focused()
    await expect(conversation).not_to_contain_text("asks you")
    _, _, tool, answer = await messages(api, chat.thread_id)
    assert (tool["content"], answer["content"].startswith(said)) == (result, True)
    assert (await api.threads.get(chat.thread_id))["status"] == "idle"


async def test_a_message_has_versions(chat: ChatPage, api: LangGraphClient) -> None:
    await chat.say("What do you have about whales?")
    await expect(chat.answers.last).to_contain_text("Moby-Dick")
    await chat.idle()
    await chat.say("Hello")
    await expect(chat.answers.last).to_contain_text("Good day!")
    await chat.idle()
    await chat.questions.first.hover()
    await chat.page.get_by_role("button", name="Edit").first.click()
    await chat.page.keyboard.press("Escape")
    await expect(chat.composer).to_be_focused()
    await chat.page.get_by_role("button", name="Edit").first.click()
    await chat.page.get_by_label("Edit the message").fill("What do you have about islands?")
    await chat.page.keyboard.press("Enter")
    await expect(chat.answers.last).to_contain_text("Treasure Island")
    await chat.idle()
    await expect(chat.questions).to_have_text(["What do you have about islands?"])
    versions = chat.page.get_by_role("group", name="Versions of this message")
    await expect(versions).to_contain_text("2/2")
    await versions.get_by_role("button", name="Previous version").click()
    await expect(chat.questions).to_have_text(["What do you have about whales?", "Hello"])
    await expect(versions).to_contain_text("1/2")
    await chat.say("Tell me more")
    await expect(chat.questions).to_have_text(["What do you have about whales?", "Hello", "Tell me more"])
    await expect(chat.answers.last).to_contain_text("Good day!")
    await chat.idle()
    human = [each["content"] for each in await messages(api, chat.thread_id) if each["type"] == "human"]
    assert human == ["What do you have about whales?", "Hello", "Tell me more"]
    await chat.page.reload()
    await expect(chat.questions).to_have_text(["What do you have about whales?", "Hello", "Tell me more"])
    await versions.get_by_role("button", name="Next version").click()
    await expect(chat.questions).to_have_text(["What do you have about islands?"])


async def test_conversations_are_listed_opened_and_deleted(chat: ChatPage, api: LangGraphClient) -> None:
    await chat.say("Hello there")
    await chat.idle()
    first = chat.thread_id
    await chat.page.get_by_role("button", name="New conversation").click()
    await expect(chat.questions).to_have_count(0)
    await chat.say("Hello again")
    await chat.idle()
    conversations = chat.page.get_by_role("navigation", name="Conversations")
    await conversations.get_by_role("button", name="Hello there", exact=True).click()
    await expect(chat.questions).to_have_text(["Hello there"])
    assert chat.thread_id == first
    await chat.page.go_back()
    await expect(chat.questions).to_have_text(["Hello again"])
    chat.page.once("dialog", lambda dialog: dialog.dismiss())
    await conversations.get_by_role("button", name="Delete “Hello there”").click()
    assert (await api.threads.get(first))["thread_id"] == first
    chat.page.once("dialog", lambda dialog: dialog.accept())
    await conversations.get_by_role("button", name="Delete “Hello there”").click()
    await expect(conversations.get_by_role("button", name="Hello there", exact=True)).to_have_count(0)
    with pytest.raises(NotFoundError):
        await api.threads.get(first)


async def test_leaving_a_conversation_does_not_stop_its_answer(chat: ChatPage, api: LangGraphClient) -> None:
    await chat.say("Tell me a story for two")
    await chat.answering()
    first = chat.thread_id
    await chat.page.get_by_role("button", name="New conversation").click()
    await chat.say("Hello")
    await expect(chat.answers).to_contain_text("Good day!")
    assert [run["status"] for run in await api.runs.list(first)] == ["running"]
    await chat.page.get_by_role("button", name=re.compile("^Tell me a story for two")).click()
    await expect(chat.answers).to_contain_text("how it goes on.")
    await chat.idle()


async def test_the_page_is_used_by_keyboard_alone(chat: ChatPage) -> None:
    await chat.composer.press_sequentially("Tell me")
    await chat.composer.press("Shift+Enter")
    await chat.composer.press_sequentially("a story")
    await chat.composer.press("Enter")
    await expect(chat.questions).to_have_text(["Tell me\na story"])
    await expect(chat.composer).to_be_focused()
    await chat.answering()
    await expect(chat.page.get_by_role("status")).to_contain_text("Answering")
    await chat.composer.press("Tab")
    await expect(chat.stop).to_be_focused()
    await chat.page.keyboard.press("Enter")
    await expect(chat.interrupted).to_have_count(1)


async def test_nothing_on_the_page_jumps_while_an_answer_comes(chat: ChatPage) -> None:
    await chat.page.evaluate(SHIFTS)
    await chat.say("Tell me a story")
    await chat.idle()
    await expect(chat.answers).to_contain_text("how it goes on.")
    assert sum(await chat.page.evaluate("window.shifts")) < 0.05


@pytest.mark.parametrize("width", [390, 1280])
async def test_the_page_fits_its_window(browser: Browser, page_url: str, bookshop: Stack, width: int) -> None:
    async with opened(browser, f"{page_url}?api={bookshop.url}") as chat:
        await chat.page.set_viewport_size({"width": width, "height": 844})
        await chat.say(f"{'x' * 300} order 2 copies of Moby-Dick")
        await expect(chat.page.get_by_role("button", name="Approve", exact=True)).to_be_in_viewport()
        await expect(chat.composer).to_be_in_viewport(ratio=1)
        assert await chat.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        if width == 390:
            await chat.page.get_by_role("button", name="Conversations").click()
            await expect(chat.page.get_by_role("button", name="New conversation")).to_be_in_viewport(ratio=1)
            await chat.page.keyboard.press("Escape")
            await expect(chat.page.get_by_role("button", name="New conversation")).to_be_hidden()
            await expect(chat.page.get_by_role("button", name="Conversations")).to_be_focused()
            await chat.page.keyboard.press("Enter")
            await chat.page.get_by_role("button", name="New conversation").click()
            await expect(chat.page.get_by_role("heading", name="Good day!")).to_be_visible()


async def test_what_waits_fits_a_phone(chat: ChatPage) -> None:
    await chat.page.set_viewport_size({"width": 390, "height": 844})
    await chat.say("Tell me a story")
    await chat.answering()
    await chat.say("Hello, and " * 20)
    await expect(chat.waiting.get_by_role("button")).to_be_in_viewport(ratio=1)
    await expect(chat.questions.first).to_be_in_viewport(ratio=1)
    await chat.stop.click()


async def test_the_end_of_a_conversation_is_one_press_away(chat: ChatPage) -> None:
    await chat.page.set_viewport_size({"width": 1280, "height": 400})
    await chat.say("Tell me a story")
    await chat.idle()
    end = chat.page.get_by_role("button", name="Go to the end")
    await expect(end).to_be_hidden()
    await chat.questions.first.scroll_into_view_if_needed()
    await end.click()
    await expect(end).to_be_hidden()
    await expect(chat.questions.first).not_to_be_in_viewport()
    # Whoever writes wants to see the answer.
    await chat.questions.first.scroll_into_view_if_needed()
    await expect(end).to_be_visible()
    await chat.say("Hello")
    await expect(chat.answers.last).to_contain_text("Good day!")
    await expect(chat.answers.last).to_be_in_viewport()


async def test_code_and_bold_text_are_shown_as_such(chat: ChatPage) -> None:
    await chat.say("Is **this** `it`?\n```python\nprint(2 ** 3)\n```\nOr not **")
    question = chat.questions.first
    await expect(question.locator("pre")).to_have_text("print(2 ** 3)")
    await expect(question.locator("strong")).to_have_text("this")
    await expect(question.locator("code").first).to_have_text("it")
    await expect(question).to_contain_text("Or not **")


async def test_a_refusal_is_told_in_the_words_of_the_server(browser: Browser, page_url: str, bookshop: Stack) -> None:
    async with opened(browser, f"{page_url}?api={bookshop.url}&assistant=nobody") as chat:
        chat.expected = ("the server responded with a status of 422",)
        await chat.say("Hello")
        await expect(chat.page.get_by_role("alert")).to_contain_text("nobody")
        await expect(chat.composer).to_have_value("Hello")
