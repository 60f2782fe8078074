"""`durathread verify`: runs the checks against a server, one after the other, and shows what came of them."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import LangGraphError

from durathread.errors import BadRequest, NotFound, Unavailable
from durathread.verify import graph
from durathread.verify.checks import CHECKS, GRAPH, TooLateError, Turn, WrongError

# How long the run works that a check meets, in seconds: longer if it had ended by then.
WORK = (1.0, 4.0, 16.0)


@dataclass(frozen=True)
class Result:
    """What came of a check; nothing is wrong if there is no `problem`."""

    name: str
    expectation: str
    seconds: float
    problem: str | None = None

    def shown(self) -> str:
        """Show it as lines of a table."""
        line = f"  {'ok' if self.problem is None else 'WRONG':5}  {self.name:10}  {self.expectation}  ({self.seconds:.1f} s)"
        return line if self.problem is None else f"{line}\n{'':21}found: {self.problem}"


def main(url: str, *, only: Sequence[str], say: Callable[[str], None]) -> int:
    """Verify a server, and return the exit code: 1 if anything is wrong.

    Raises:
        BadRequest: there is no such check.
        Unavailable: nobody answers there.
        NotFound: the server does not serve the graph.
    """
    if unknown := sorted(set(only) - set(CHECKS)):
        raise BadRequest(f"There is no check '{unknown[0]}'. Checks: {', '.join(CHECKS)}")
    return asyncio.run(_verify(url, only or list(CHECKS), say))


async def _verify(url: str, names: Sequence[str], say: Callable[[str], None]) -> int:
    async with get_client(url=url) as client:
        await _require_graph(client, url)
        say(f"{url}\n")
        wrong = 0
        for name in names:
            result = await verified(client, name)
            wrong += result.problem is not None
            say(result.shown())
        say(f"\n{len(names)} checks: {len(names) - wrong} ok, {wrong} wrong")
    return 1 if wrong else 0


async def verified(client: LangGraphClient, name: str, *, work: Sequence[float] = WORK) -> Result:
    """Run a check, on another thread with a longer run if the run was over before it could be met."""
    check, began = CHECKS[name], time.monotonic()
    problem: str | None = f"nothing can be said: a run of {work[-1]:.0f} s was over before another could be started"
    for seconds in work:
        try:
            await check(Turn(client, seconds))
            problem = None
        except TooLateError:
            continue
        except WrongError as error:
            problem = str(error)
        except (LangGraphError, httpx.HTTPError) as error:
            problem = f"{type(error).__name__}: {error}"
        break
    return Result(name, (check.__doc__ or "").strip(), time.monotonic() - began, problem)


async def _require_graph(client: LangGraphClient, url: str) -> None:
    try:
        found = await client.assistants.search(graph_id=GRAPH)
    except httpx.TransportError as error:
        raise Unavailable(f"Nobody answers at {url}: {type(error).__name__}") from error
    except LangGraphError:
        found = []
    if not found:
        raise NotFound(
            f"The server at {url} serves no graph '{GRAPH}', which the checks run. Copy {graph.__file__} to it, and "
            f'name it in its langgraph.json: {{"graphs": {{"{GRAPH}": "./graph.py:graph"}}}}.'
        )
