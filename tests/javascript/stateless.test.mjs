import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
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
  const marked = (onCompletion) => ({ mark: `${onCompletion} ${id}` });
  const id = randomUUID();
  for (const onCompletion of ["keep", "delete"]) {
    await client.runs.wait(null, "agent", { input, onCompletion, metadata: marked(onCompletion) });
  }
  const [kept] = await client.threads.search({ metadata: marked("keep") });
  assert.deepEqual(kept.values.log, LOG);
  const gone = async () => (await client.threads.count({ metadata: marked("delete") })) === 0;
  await eventually(gone, { what: "the thread is gone" });
});
