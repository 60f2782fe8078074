import assert from "node:assert/strict";
import { test } from "node:test";
import { all, client, eventually, names } from "./support.mjs";

const LOG = ["in", "a", "b", "c"];
const input = { log: ["in"] };

test("a run without a thread is streamed", async () => {
  const parts = await all(client.runs.stream(null, "agent", { input }));
  assert.deepEqual(parts.findLast((part) => part.event === "values").data.log, LOG);
});

test("a run without a thread is waited for", async () => {
  assert.deepEqual((await client.runs.wait(null, "agent", { input })).log, LOG);
});

test("a run without a thread is joined by its id alone, from its beginning", async () => {
  const run = await client.runs.create(null, "agent", { input, streamResumable: true, onCompletion: "keep" });
  const parts = await all(client.runs.joinStream(null, run.run_id, { lastEventId: "-1" }));
  assert.equal(names(parts)[0], "metadata");
  assert.deepEqual(parts.findLast((part) => part.event === "values").data.log, LOG);
});

test("the thread of such a run is kept if so asked, else it goes", async () => {
  const started = (onCompletion) => client.runs.create(null, "agent", { input, onCompletion });
  const [kept, going] = await Promise.all(["keep", "delete"].map(started));
  await client.runs.join(kept.thread_id, kept.run_id);
  assert.deepEqual((await client.threads.getState(kept.thread_id)).values.log, LOG);
  const gone = () => client.threads.get(going.thread_id).then(() => false, (error) => error.status === 404);
  await eventually(gone, { what: "the thread is gone" });
});
