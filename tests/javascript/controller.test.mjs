// What is beneath the hooks for React, Vue and others, in the newest package.

import assert from "node:assert/strict";
import { test } from "node:test";
import { StreamController } from "@langchain/langgraph-sdk/stream";
import { client, eventually, held, newThread } from "./support.mjs";

async function controller(threadId, assistantId = "agent") {
  const made = new StreamController({ client, assistantId, threadId });
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
  // The ends of others may come between: the page knows better in the end.
  await eventually(() => page.rootStore.getSnapshot().isLoading, { what: "the page waits" });
  assert.equal(over, false);
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

test("a fork leaves nothing of what came after it, while it runs and when it is told again", async () => {
  const threadId = await newThread();
  const page = await controller(threadId, "chat");
  const shown = (each) => each.rootStore.getSnapshot().messages.map(({ text }) => text).join("|");
  const says = (content) => ({ messages: [{ type: "human", content }] });
  for (const text of ["one", "two", "three"]) await page.submit(says(text));
  const history = await client.threads.getHistory(threadId, { limit: 50 });
  const { checkpoint } = history.findLast(({ values }) => values.messages?.length === 2);
  await page.submit(says("TWO"), { forkFrom: checkpoint.checkpoint_id });
  await eventually(() => shown(page) === "one|one |TWO|TWO ", { what: "the fork" });
  const late = await controller(threadId, "chat");
  await late.submit(says("four"));
  for (const each of [page, late]) {
    await eventually(() => shown(each) === "one|one |TWO|TWO |four|four ", { what: "what came next" });
    each.dispose();
  }
});
