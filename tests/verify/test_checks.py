"""`durathread verify` finds what a server does wrong, and nothing at one that does it right."""

import pytest
from langgraph_sdk.client import LangGraphClient

from durathread.errors import BadRequest, Unavailable
from durathread.verify.checks import CHECKS
from durathread.verify.report import main, verified
from tests.cli.test_cli import answer
from tests.stack import Stack
from tests.verify.stub import Stub

# A run that had ended before it was met says nothing, so a slow machine makes these longer, not wrong.
WORK = (0.3, 3.0, 30.0)

FLAWS = [
    ("reject", "accepts", "it is accepted"),
    ("enqueue", "parallel", "the thread: ['r1', 'a', 'r2'"),
    ("interrupt", "ignores", "the first run: success"),
    ("interrupt", "goes on", "the thread: "),
    ("rollback", "ignores", "the first run: success"),
    ("rollback", "only interrupts", "the first run: interrupted"),
    ("race", "looks first", "accepted: 5, not 1"),
    ("race", "accepts", "accepted: 5, not 1"),
    ("rollback", "goes on", "the thread: "),
    ("cancel", "goes on", "the thread: "),
]


@pytest.mark.parametrize("name", CHECKS)
async def test_a_server_that_does_it_right_passes(name: str) -> None:
    result = await verified(Stub().client(), name, work=WORK)
    assert result.problem is None


@pytest.mark.parametrize(("name", "flaw", "problem"), FLAWS)
async def test_a_server_that_does_it_wrong_is_found_out(name: str, flaw: str, problem: str) -> None:
    result = await verified(Stub({flaw}).client(), name, work=WORK)
    assert result.problem is not None
    assert result.problem.startswith(problem)


def test_each_check_has_been_seen_to_fail() -> None:
    assert {name for name, _, _ in FLAWS} == set(CHECKS)


async def test_a_run_that_is_over_before_it_is_met_says_nothing() -> None:
    result = await verified(Stub().client(), "interrupt", work=(0,))
    assert result.problem is not None
    assert result.problem.startswith("nothing can be said")


async def test_this_server_passes(client: LangGraphClient, server: Stack) -> None:
    code, out, err = await answer("verify", server.url)
    assert (code, err) == (0, "")
    assert out.endswith(f"\n{len(CHECKS)} checks: {len(CHECKS)} ok, 0 wrong\n")


def test_what_cannot_be_verified_is_said() -> None:
    with pytest.raises(BadRequest, match="There is no check 'nonsense'"):
        main("http://127.0.0.1:9", only=["nonsense"], say=print)
    with pytest.raises(Unavailable, match=r"Nobody answers at http://127\.0\.0\.1:9"):
        main("http://127.0.0.1:9", only=(), say=print)
