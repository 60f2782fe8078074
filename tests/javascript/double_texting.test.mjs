import assert from "node:assert/strict";
import { test } from "node:test";
import { client, counting, held, logOf, newThread } from "./support.mjs";

/** Send a second run while the first works in its second node, and let that go once the second was answered. */
async function texted(multitaskStrategy, sender = client) {
  const threadId = await newThread();
  const work = held("first");
  const first = await client.runs.create(threadId, "agent", { input: work.input });
  await work.working();
  const answer = sender.runs.create(threadId, "agent", { input: { log: ["second"] }, multitaskStrategy });
  const [second] = await Promise.allSettled([answer]);
  work.release();
  if (second.value) await client.runs.join(threadId, second.value.run_id);
  else await client.runs.join(threadId, first.run_id);
  return { threadId, first: first.run_id, refusal: second.reason };
}

test("enqueue: both run, one after the other", async () => {
  for (const strategy of [undefined, "enqueue"]) {
    const { threadId } = await texted(strategy);
    assert.deepEqual(await logOf(threadId), ["first", "a", "b", "c", "second", "a", "b", "c"]);
  }
});

test("interrupt: what the first has done stays, and the second runs", async () => {
  const { threadId, first } = await texted("interrupt");
  assert.deepEqual(await logOf(threadId), ["first", "a", "second", "a", "b", "c"]);
  assert.equal((await client.runs.get(threadId, first)).status, "interrupted");
});

test("rollback: nothing of the first stays, and the second runs", async () => {
  const { threadId, first } = await texted("rollback");
  assert.deepEqual(await logOf(threadId), ["second", "a", "b", "c"]);
  await assert.rejects(client.runs.get(threadId, first), { status: 404 });
});

test("reject: the second is refused by one answer that the client does not ask again", async () => {
  const sender = counting();
  const { threadId, refusal } = await texted("reject", sender.client);
  assert.equal(refusal.status, 409);
  assert.match(refusal.message, /already running/);
  assert.deepEqual(sender.requests, [`POST /threads/${threadId}/runs`]);
  assert.deepEqual(await logOf(threadId), ["first", "a", "b", "c"]);
});
