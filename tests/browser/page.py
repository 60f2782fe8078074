"""What a person does with the chat page, and what they see on it."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import ConsoleMessage, Locator, Page, expect

SHOTS = Path(__file__).parent / "shots"
# Notes every text that the last answer on the page has ever had.
WATCH = """
window.seen = [];
new MutationObserver(() => {
  const text = [...document.querySelectorAll(".message.ai > .text")].at(-1)?.textContent;
  if (text !== undefined && text !== window.seen.at(-1)) window.seen.push(text);
}).observe(document, { subtree: true, childList: true, characterData: true });
"""
# What the browser and the SDK's hook say of what the page expects: a run that is refused, and one that fails.
EXPECTED: tuple[str, ...] = ("the server responded with a status of 409", "RuntimeError: The model is overloaded.")


class ChatPage:
    """The page, in a tab."""

    def __init__(self, page: Page) -> None:
        """Watch a tab for errors."""
        self.page = page
        self.errors: list[str] = []
        # Parts of what the browser may report.
        self.expected = EXPECTED
        page.on("pageerror", lambda error: self._note(str(error)))
        page.on("console", self._console)
        self.composer = page.get_by_role("textbox", name="Message", exact=True)
        self.answers = page.locator(".message.ai > .text")
        self.questions = page.locator(".message.human > .text")
        self.stop = page.get_by_role("button", name="Stop", exact=True)
        self.interrupted = page.locator(".message[data-note=interrupted]")
        self.waiting = page.get_by_role("region", name="Waiting messages").get_by_role("listitem")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._note(message.text)

    def _note(self, error: str) -> None:
        if not any(each in error for each in self.expected):
            self.errors.append(error)

    async def open(self, url: str) -> None:
        """Go to the page."""
        await self.page.add_init_script(WATCH)
        await self.page.goto(url)
        await expect(self.composer).to_be_focused()

    @property
    def thread_id(self) -> str:
        """The thread that the address names."""
        return parse_qs(urlsplit(self.page.url).query)["thread"][0]

    async def say(self, text: str, strategy: str | None = None) -> None:
        """Send a message; `strategy` is the label of what becomes of a run that works."""
        if strategy:
            await self.page.get_by_text(strategy, exact=True).click()
        await self.composer.fill(text)
        await self.composer.press("Enter")

    async def answering(self, answer: Locator | None = None, *, least: int = 80) -> str:
        """Wait until an answer, by default the last, has some text but is not complete, and return it."""
        found = answer or self.answers.last
        await expect(found).to_have_text(re.compile(rf"[\s\S]{{{least},}}"))
        await expect(self.stop).to_be_visible()
        return await found.inner_text()

    async def idle(self) -> None:
        """Wait until no run works."""
        await expect(self.page.get_by_role("log")).to_have_attribute("aria-busy", "false")

    async def seen(self) -> list[str]:
        """Tell every text that the last answer has had since the page was loaded."""
        return await self.page.evaluate("window.seen")

    async def shoot(self, name: str) -> None:
        """Take pictures: as it is, and dark at the width of a phone."""
        path = SHOTS / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        await self.page.screenshot(path=path)
        size: Any = self.page.viewport_size
        await self.page.emulate_media(color_scheme="dark")
        await self.page.set_viewport_size({"width": 390, "height": 844})
        await self.page.screenshot(path=path.with_stem(f"{path.stem}-phone"))
        await self.page.emulate_media(color_scheme="light")
        await self.page.set_viewport_size(size)
