import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { client, eventually, newThread } from "./support.mjs";

const YEARLY = "0 0 1 1 *";

test("a cron is made, found, changed, counted and deleted", async () => {
  const metadata = { mark: randomUUID() };
  const cron = await client.crons.create("agent", { schedule: YEARLY, input: { log: ["cron"] }, metadata });
  assert.equal(cron.schedule, YEARLY);
  const [found] = await client.crons.search({ limit: 100, sortBy: "created_at", sortOrder: "desc" });
  assert.equal(found.cron_id, cron.cron_id);
  const changed = await client.crons.update(cron.cron_id, { schedule: "0 0 2 1 *", enabled: false });
  assert.deepEqual([changed.schedule, changed.enabled], ["0 0 2 1 *", false]);
  assert.ok((await client.crons.count({ assistantId: cron.assistant_id })) >= 1);
  assert.equal(await client.crons.delete(cron.cron_id), undefined);
  const left = await client.crons.search({ limit: 100 });
  assert.ok(!left.some(({ cron_id }) => cron_id === cron.cron_id));
});

test("a cron of a thread runs on it", async () => {
  const threadId = await newThread();
  const everySecond = "* * * * * *";
  const cron = await client.crons.createForThread(threadId, "agent", { schedule: everySecond, input: { log: ["cron"] } });
  assert.equal(cron.thread_id, threadId);
  await eventually(async () => (await client.runs.list(threadId)).length > 0, { what: "a run", timeout: 60_000 });
  await client.crons.delete(cron.cron_id);
  const [run] = await client.runs.list(threadId);
  assert.equal((await client.runs.join(threadId, run.run_id)).log[0], "cron");
});

test("a schedule that is none is refused", async () => {
  await assert.rejects(client.crons.create("agent", { schedule: "sometimes" }), { status: 422 });
});
