"""Answers that are worked out once for all who ask at the same time, and seldom for those who ask again and again."""

import asyncio

import pytest

from durathread.api.http.brief_answers import MOMENT, MOST, Brief


class Counted:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self) -> int:
        await asyncio.sleep(0)
        self.asked += 1
        return self.asked


async def test_those_who_ask_together_are_answered_together() -> None:
    counted = Counted()
    brief = Brief(counted)
    assert await asyncio.gather(*(brief.get() for _ in range(20))) == [1] * 20


async def test_who_asks_in_turn_is_told_what_is() -> None:
    brief = Brief(Counted())
    assert [await brief.get() for _ in range(3)] == [1, 2, 3]


async def test_a_flood_is_worked_out_a_few_times_a_second() -> None:
    counted = Counted()
    brief = Brief(counted)
    clock = asyncio.get_running_loop()
    began = clock.time()
    for _ in range(10_000):
        await brief.get()
    assert counted.asked <= MOST * (1 + (clock.time() - began) / MOMENT)


async def test_a_flood_is_not_worked_out_more_often_because_it_fails() -> None:
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        raise ValueError("away")

    brief = Brief(ask)
    clock = asyncio.get_running_loop()
    began = clock.time()
    for _ in range(10_000):
        with pytest.raises(ValueError, match="away"):
            await brief.get()
    assert asked <= MOST * (1 + (clock.time() - began) / MOMENT)


async def test_who_asks_in_turn_is_told_when_it_is_there_again() -> None:
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
