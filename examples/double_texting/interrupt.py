"""Double texting with `interrupt`: the first run is stopped and kept, the second goes on from what it wrote."""

import asyncio
import os

from langchain_core.messages import convert_to_messages
from langgraph_sdk import get_client


async def main() -> dict[str, object]:
    """Ask about San Francisco, then about New York while the agent works, and show what the thread holds."""
    client = get_client(url=os.environ.get("DURATHREAD_URL", "http://localhost:8123"))
    assistant_id = "agent"
    thread = await client.threads.create()

    # the first run will be interrupted
    interrupted_run = await client.runs.create(
        thread["thread_id"],
        assistant_id,
        input={"messages": [{"role": "human", "content": "what's the weather in sf?"}]},
    )
    await asyncio.sleep(2)
    run = await client.runs.create(
        thread["thread_id"],
        assistant_id,
        input={"messages": [{"role": "human", "content": "what's the weather in nyc?"}]},
        multitask_strategy="interrupt",
    )

    # wait until the second run completes
    await client.runs.join(thread["thread_id"], run["run_id"])

    # the thread has partial data from the first run + data from the second run
    state = await client.threads.get_state(thread["thread_id"])
    messages = convert_to_messages(state["values"]["messages"])
    for m in messages:
        m.pretty_print()

    # the original, interrupted run was interrupted
    first = (await client.runs.get(thread["thread_id"], interrupted_run["run_id"]))["status"]
    second = (await client.runs.get(thread["thread_id"], run["run_id"]))["status"]
    print(f"\nfirst run: {first}, second run: {second}")
    await client.aclose()
    return {"first": first, "second": second, "messages": messages}


if __name__ == "__main__":
    asyncio.run(main())
