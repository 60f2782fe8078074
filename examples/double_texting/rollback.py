"""Double texting with `rollback`: the first run is deleted, as if it had never been asked for."""

import asyncio
import os

from langchain_core.messages import convert_to_messages
from langgraph_sdk import get_client
from langgraph_sdk.errors import NotFoundError


async def main() -> dict[str, object]:
    """Ask about San Francisco, then about New York while the agent works, and show what the thread holds."""
    client = get_client(url=os.environ.get("DURATHREAD_URL", "http://localhost:8123"))
    assistant_id = "agent"
    thread = await client.threads.create()

    # the first run will be rolled back
    rolled_back_run = await client.runs.create(
        thread["thread_id"],
        assistant_id,
        input={"messages": [{"role": "human", "content": "what's the weather in sf?"}]},
    )
    await asyncio.sleep(2)
    run = await client.runs.create(
        thread["thread_id"],
        assistant_id,
        input={"messages": [{"role": "human", "content": "what's the weather in nyc?"}]},
        multitask_strategy="rollback",
    )

    # wait until the second run completes
    await client.runs.join(thread["thread_id"], run["run_id"])

    # the thread has data from the second run only
    state = await client.threads.get_state(thread["thread_id"])
    messages = convert_to_messages(state["values"]["messages"])
    for m in messages:
        m.pretty_print()

    # the original, rolled back run is gone
    try:
        first = (await client.runs.get(thread["thread_id"], rolled_back_run["run_id"]))["status"]
    except NotFoundError:
        first = "not found"
    second = (await client.runs.get(thread["thread_id"], run["run_id"]))["status"]
    print(f"\nfirst run: {first}, second run: {second}")
    await client.aclose()
    return {"first": first, "second": second, "messages": messages}


if __name__ == "__main__":
    asyncio.run(main())
