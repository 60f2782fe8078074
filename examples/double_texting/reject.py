"""Double texting with `reject`: the second run is refused while the first one works."""

import asyncio
import os

from langchain_core.messages import convert_to_messages
from langgraph_sdk import get_client
from langgraph_sdk.errors import ConflictError


async def main() -> dict[str, object]:
    """Ask about San Francisco, then about New York while the agent works, and show what the thread holds."""
    client = get_client(url=os.environ.get("DURATHREAD_URL", "http://localhost:8123"))
    assistant_id = "agent"
    thread = await client.threads.create()

    # the first run goes on
    run = await client.runs.create(
        thread["thread_id"],
        assistant_id,
        input={"messages": [{"role": "human", "content": "what's the weather in sf?"}]},
    )
    await asyncio.sleep(2)
    refused = None
    try:
        await client.runs.create(
            thread["thread_id"],
            assistant_id,
            input={"messages": [{"role": "human", "content": "what's the weather in nyc?"}]},
            multitask_strategy="reject",
        )
    except ConflictError as e:
        refused = e.status_code
        print("Failed to start the second run:", e)

    # wait until the first run completes
    await client.runs.join(thread["thread_id"], run["run_id"])

    # the thread has data from the first run only
    state = await client.threads.get_state(thread["thread_id"])
    messages = convert_to_messages(state["values"]["messages"])
    for m in messages:
        m.pretty_print()

    first = (await client.runs.get(thread["thread_id"], run["run_id"]))["status"]
    runs = await client.runs.list(thread["thread_id"])
    print(f"\nfirst run: {first}, runs of the thread: {len(runs)}")
    await client.aclose()
    return {"first": first, "refused": refused, "runs": len(runs), "messages": messages}


if __name__ == "__main__":
    asyncio.run(main())
