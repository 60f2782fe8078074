"""Double texting with `enqueue`, the default: the second run starts when the first has ended."""

import asyncio
import os

from langchain_core.messages import convert_to_messages
from langgraph_sdk import get_client


async def main() -> dict[str, object]:
    """Ask about San Francisco, then about New York while the agent works, and show what the thread holds."""
    client = get_client(url=os.environ.get("DURATHREAD_URL", "http://localhost:8123"))
    assistant_id = "agent"
    thread = await client.threads.create()

    first_run = await client.runs.create(
        thread["thread_id"],
        assistant_id,
        input={"messages": [{"role": "human", "content": "what's the weather in sf?"}]},
    )
    await asyncio.sleep(2)
    # this run will wait for its turn
    second_run = await client.runs.create(
        thread["thread_id"],
        assistant_id,
        input={"messages": [{"role": "human", "content": "what's the weather in nyc?"}]},
        multitask_strategy="enqueue",
    )

    # wait until the second run completes
    await client.runs.join(thread["thread_id"], second_run["run_id"])

    # the thread has data from both runs, in the order in which they were asked for
    state = await client.threads.get_state(thread["thread_id"])
    messages = convert_to_messages(state["values"]["messages"])
    for m in messages:
        m.pretty_print()

    first = (await client.runs.get(thread["thread_id"], first_run["run_id"]))["status"]
    second = (await client.runs.get(thread["thread_id"], second_run["run_id"]))["status"]
    print(f"\nfirst run: {first}, second run: {second}")
    await client.aclose()
    return {"first": first, "second": second, "messages": messages}


if __name__ == "__main__":
    asyncio.run(main())
