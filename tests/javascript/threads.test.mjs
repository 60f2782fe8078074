import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { all, client, first, logOf, newThread } from "./support.mjs";

async function ran(...logs) {
  const threadId = await newThread();
  for (const log of logs) await client.runs.wait(threadId, "agent", { input: { log: [log] } });
  return threadId;
}

test("a thread is created with its id, metadata and graph, and read back", async () => {
  const threadId = randomUUID();
  const made = await client.threads.create({ threadId, metadata: { owner: "me" }, graphId: "agent" });
  assert.equal(made.thread_id, threadId);
  assert.deepEqual(made.metadata, { owner: "me", graph_id: "agent" });
  assert.deepEqual(await client.threads.get(threadId), made);
});

test("a thread that exists is refused, or given as it is if so asked", async () => {
  const threadId = await newThread({ metadata: { first: true } });
  await assert.rejects(client.threads.create({ threadId }), { status: 409 });
  const again = await client.threads.create({ threadId, ifExists: "do_nothing", metadata: { first: false } });
  assert.equal(again.metadata.first, true);
});

test("threads are found by metadata, status and values, counted, and only asked fields are sent", async () => {
  const mark = randomUUID();
  const threadId = await newThread({ metadata: { mark } });
  await client.runs.wait(threadId, "agent", { input: { log: ["found"] } });
  const query = { metadata: { mark }, status: "idle", values: { log: ["found", "a", "b", "c"] } };
  assert.deepEqual(await client.threads.search({ ...query, select: ["thread_id"] }), [{ thread_id: threadId }]);
  assert.equal(await client.threads.count(query), 1);
  assert.deepEqual(await client.threads.search({ metadata: { mark }, status: "busy" }), []);
});

test("the metadata of a thread is merged with what it is updated by", async () => {
  const threadId = await newThread({ metadata: { a: 1, b: 1 } });
  const updated = await client.threads.update(threadId, { metadata: { b: 2 } });
  assert.deepEqual([updated.metadata.a, updated.metadata.b], [1, 2]);
});

test("metadata is patched by way of the state, by id or by config", async () => {
  const threadId = await newThread({ metadata: { a: 1 } });
  await client.threads.patchState(threadId, { b: 2 });
  await client.threads.patchState({ configurable: { thread_id: threadId } }, { c: 3 });
  const { metadata } = await client.threads.get(threadId, { include: ["ttl"] });
  assert.deepEqual(metadata, { a: 1, b: 2, c: 3 });
});

test("the state of a thread is that of its last checkpoint, and of any other that is named", async () => {
  const threadId = await ran("one", "two");
  const state = await client.threads.getState(threadId);
  assert.deepEqual(state.values.log, ["one", "a", "b", "c", "two", "a", "b", "c"]);
  assert.deepEqual(state.next, []);
  const history = await client.threads.getHistory(threadId, { limit: 100 });
  assert.equal(history.length, 10);
  const middle = history.find((each) => each.next[0] === "b");
  for (const named of [middle.checkpoint, middle.checkpoint.checkpoint_id]) {
    assert.deepEqual((await client.threads.getState(threadId, named)).values.log, middle.values.log);
  }
});

test("history is read in pages, before a checkpoint", async () => {
  const threadId = await ran("paged");
  const newest = await client.threads.getHistory(threadId, { limit: 2 });
  const older = await client.threads.getHistory(threadId, { limit: 100, before: newest[1].checkpoint });
  assert.equal(older.length, 3);
  assert.ok(older[0].checkpoint.checkpoint_id < newest[1].checkpoint.checkpoint_id);
});

test("a state is updated in the name of a node, and the answer says where it is", async () => {
  const threadId = await ran("before");
  const { checkpoint, configurable } = await client.threads.updateState(threadId, { values: { log: ["by hand"] }, asNode: "a" });
  const state = await client.threads.getState(threadId);
  assert.deepEqual(state.next, ["b"]);
  assert.equal(state.checkpoint.checkpoint_id, checkpoint.checkpoint_id);
  assert.equal(configurable.checkpoint_id, checkpoint.checkpoint_id);
  await client.runs.wait(threadId, "agent", { input: null });
  assert.deepEqual(await logOf(threadId), ["before", "a", "b", "c", "by hand", "b", "c"]);
});

test("a copy of a thread has its state, and a life of its own", async () => {
  const threadId = await ran("original");
  const copy = await client.threads.copy(threadId);
  await client.runs.wait(copy.thread_id, "agent", { input: { log: ["copy"] } });
  assert.deepEqual(await logOf(threadId), ["original", "a", "b", "c"]);
  assert.deepEqual(await logOf(copy.thread_id), ["original", "a", "b", "c", "copy", "a", "b", "c"]);
});

test("a thread is made with a history", async () => {
  const supersteps = [{ updates: [{ values: { log: ["made"] }, asNode: "__start__" }] }];
  const threadId = await newThread({ graphId: "agent", supersteps });
  assert.deepEqual(await logOf(threadId), ["made"]);
  assert.deepEqual((await client.threads.getState(threadId)).next, ["a"]);
});

test("a deleted thread is gone, and deleting answers nothing", async () => {
  const threadId = await ran("short");
  assert.equal(await client.threads.delete(threadId), undefined);
  await assert.rejects(client.threads.get(threadId), { status: 404 });
  await assert.rejects(client.threads.getState(threadId), { status: 404 });
});

test("the stream of a thread shows runs that others start", async () => {
  const threadId = await newThread();
  const stream = client.threads.joinStream(threadId, { lastEventId: "-" });
  const { run_id } = await client.runs.create(threadId, "agent", { input: { log: ["seen"] }, streamResumable: true });
  const begun = await first(stream, (part) => part.event === "metadata");
  assert.equal(begun.data.run_id, run_id);
  const rejoined = client.threads.joinStream(threadId, { lastEventId: begun.id });
  const seen = [];
  for await (const part of rejoined) {
    if (part.data?.status === "run_done") break;
    seen.push(part);
  }
  assert.deepEqual(seen.map((part) => part.data.log.length), [1, 2, 3, 4]);
});

test("the stream of a thread can be asked for updates of its state alone", async () => {
  const threadId = await ran("watched");
  const options = { streamMode: ["state_update"], lastEventId: "-" };
  const update = first(client.threads.joinStream(threadId, options), (part) => part.event === "state_update");
  await client.threads.updateState(threadId, { values: { log: ["by hand"] } });
  assert.equal((await update).data.state.values.log.at(-1), "by hand");
});

test("what a thread does not have is an error, not nothing", async () => {
  await assert.rejects(client.threads.get(randomUUID()), { status: 404 });
  await assert.rejects(all(client.threads.joinStream(randomUUID())), { status: 404 });
  await assert.rejects(client.threads.get("not-an-id"), { status: 422 });
});
