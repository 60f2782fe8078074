"""Answers that are worked out once for all who ask at the same time."""

import asyncio

import pytest

from durathread.api.brief import Brief


async def test_those_who_ask_together_are_answered_together() -> None:
    asked: list[int] = []

    async def ask() -> int:
        await asyncio.sleep(0)
        asked.append(1)
        return len(asked)

    brief = Brief(ask)
    assert await asyncio.gather(*(brief.get() for _ in range(20))) == [1] * 20


async def test_a_failure_is_not_remembered() -> None:
    answers = [ValueError("away"), "there"]

    async def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    brief = Brief(ask)
    with pytest.raises(ValueError, match="away"):
        await brief.get()
    assert await brief.get() == "there"
