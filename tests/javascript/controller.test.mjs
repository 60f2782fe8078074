// What is beneath the hooks for React, Vue and others, in the newest package.

import assert from "node:assert/strict";
import { test } from "node:test";
import { StreamController } from "@langchain/langgraph-sdk/stream";
import { client, eventually, held, newThread } from "./support.mjs";

async function controller(threadId) {
  const made = new StreamController({ client, assistantId: "agent", threadId });
  await made.hydrate(threadId);
  return made;
}

/** Start a run that waits in its second step, and see that it is waited for: to its own end, and not to another's. */
async function waitsFor(page, label) {
  const work = held(label);
  let over = false;
  const submitted = page.submit(work.input).then(() => (over = true));
  await work.working();
  await eventually(() => page.rootStore.getSnapshot().values.log?.includes(label), { what: "the run is seen" });
  assert.deepEqual([over, page.rootStore.getSnapshot().isLoading], [false, true]);
  work.release();
  await submitted;
}

test("a run is waited for to its own end, though those of others are told again", async () => {
  const threadId = await newThread();
  const first = await controller(threadId);
  await waitsFor(first, "one");
  // What comes later hears of the end of all that was.
  const second = await controller(threadId);
  await waitsFor(second, "two");
  await waitsFor(first, "three");
  for (const page of [first, second]) page.dispose();
});
