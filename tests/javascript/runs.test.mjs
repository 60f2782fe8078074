import assert from "node:assert/strict";
import { test } from "node:test";
import { all, client, eventually, held, logOf, names, newThread } from "./support.mjs";

const LOG = ["in", "a", "b", "c"];
const input = { log: ["in"] };
const said = (text) => ({ messages: [{ type: "human", content: text }] });

test("a run is streamed in the modes asked for, in order, and tells its id at once", async () => {
  const threadId = await newThread();
  let created;
  const streamMode = ["values", "updates", "tasks", "checkpoints"];
  const stream = client.runs.stream(threadId, "agent", { input, streamMode, onRunCreated: (run) => (created = run) });
  const parts = await all(stream);
  assert.equal(created.thread_id, threadId);
  assert.equal(parts[0].event, "metadata");
  assert.equal(parts[0].data.run_id, created.run_id);
  const updates = parts.filter((part) => part.event === "updates").map((part) => Object.keys(part.data)[0]);
  assert.deepEqual(updates, ["a", "b", "c"]);
  assert.deepEqual(parts.findLast((part) => part.event === "values").data.log, LOG);
  assert.ok(names(parts).includes("tasks"));
  assert.ok(names(parts).includes("checkpoints"));
});

test("tokens come as pieces of one message that add up to the message of the state", async () => {
  const threadId = await newThread();
  const parts = await all(client.runs.stream(threadId, "chat", { input: said("one two three"), streamMode: "messages-tuple" }));
  const chunks = parts.filter((part) => part.event === "messages").map((part) => part.data);
  const { messages } = (await client.threads.getState(threadId)).values;
  assert.equal(chunks.map(([chunk]) => chunk.content).join(""), messages[1].content);
  assert.deepEqual([...new Set(chunks.map(([chunk]) => chunk.id))], [messages[1].id]);
  assert.ok(chunks.length > 2);
  assert.equal(chunks[0][1].langgraph_node, "speak");
});

test("accumulated messages come whole each time", async () => {
  const parts = await all(client.runs.stream(await newThread(), "chat", { input: said("one two"), streamMode: "messages" }));
  const partial = parts.filter((part) => part.event === "messages/partial").map((part) => part.data[0].content);
  assert.deepEqual([...new Set(partial.filter(Boolean))], ["one ", "one two "]);
});

test("events of subgraphs carry their place in their name", async () => {
  const options = { input: said("deep"), streamMode: ["updates", "custom"], streamSubgraphs: true };
  const parts = await all(client.runs.stream(await newThread(), "nested_chat", options));
  assert.ok(names(parts).some((name) => /^updates\|sub:[0-9a-f-]+$/.test(name)));
  assert.deepEqual(parts.find((part) => part.event === "custom").data, { speaking: true });
});

test("a run in the background is joined, awaited or read", async () => {
  const threadId = await newThread();
  const run = await client.runs.create(threadId, "agent", { input, metadata: { asked: "by JavaScript" } });
  assert.equal(run.status, "pending");
  assert.deepEqual((await client.runs.join(threadId, run.run_id)).log, LOG);
  const ended = await client.runs.get(threadId, run.run_id);
  assert.equal(ended.status, "success");
  assert.equal(ended.metadata.asked, "by JavaScript");
});

test("a run that is waited for gives its values", async () => {
  assert.deepEqual((await client.runs.wait(await newThread(), "agent", { input })).log, LOG);
});

test("runs are listed newest first, by status, and with the fields asked for", async () => {
  const threadId = await newThread();
  const first = await client.runs.create(threadId, "agent", { input });
  const second = await client.runs.create(threadId, "agent", { input });
  await client.runs.join(threadId, second.run_id);
  const listed = await client.runs.list(threadId, { select: ["run_id", "status"], status: "success", limit: 5 });
  assert.deepEqual(listed, [second, first].map(({ run_id }) => ({ run_id, status: "success" })));
});

test("a working run is cancelled: at once, or when it has stopped", async () => {
  const threadId = await newThread();
  for (const wait of [false, true]) {
    const work = held("cancelled");
    const run = await client.runs.create(threadId, "agent", { input: work.input });
    await work.working();
    const answer = await client.runs.cancel(threadId, run.run_id, wait);
    assert.equal(answer, wait ? answer : undefined);
    assert.equal((await client.runs.get(threadId, run.run_id)).status, "interrupted");
    await assert.rejects(client.runs.cancel(threadId, run.run_id), { status: 404 });
  }
});

test("a cancelled run may be rolled back: nothing of it is left", async () => {
  const threadId = await newThread();
  const work = held("undone");
  const run = await client.runs.create(threadId, "agent", { input: work.input });
  await work.working();
  await client.runs.cancel(threadId, run.run_id, true, "rollback");
  await assert.rejects(client.runs.get(threadId, run.run_id), { status: 404 });
  assert.deepEqual(await logOf(threadId), []);
});

test("an ended run is deleted, and deleting answers nothing", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "agent", { input });
  const [{ run_id }] = await client.runs.list(threadId);
  assert.equal(await client.runs.delete(threadId, run_id), undefined);
  assert.deepEqual(await client.runs.list(threadId), []);
});

test("a failing run says so: in its stream, and to those who wait", async () => {
  const failing = { input: { log: ["in"], do: { b: { fail: "as asked" } } } };
  const parts = await all(client.runs.stream(await newThread(), "agent", failing));
  assert.deepEqual(parts.find((part) => part.event === "error").data, { error: "ValueError", message: "as asked" });
  await assert.rejects(client.runs.wait(await newThread(), "agent", failing), /ValueError: as asked/);
  const told = await client.runs.wait(await newThread(), "agent", { ...failing, raiseError: false });
  assert.equal(told.__error__.message, "as asked");
});

test("a run that asks a human stops with the question, and goes on with the answer", async () => {
  const threadId = await newThread();
  const asked = await client.runs.wait(threadId, "hitl", { input: { log: [] } });
  assert.equal(asked.__interrupt__[0].value, "ask?");
  assert.equal((await client.threads.get(threadId)).status, "interrupted");
  const answered = await client.runs.wait(threadId, "hitl", { command: { resume: "yes" } });
  assert.deepEqual(answered.log, ["ask=yes", "after"]);
});

test("a run stops before the nodes that are named, and goes on without input", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "agent", { input, interruptBefore: ["b"] });
  assert.deepEqual((await client.threads.getState(threadId)).next, ["b"]);
  assert.deepEqual((await client.runs.wait(threadId, "agent", { input: null })).log, LOG);
});

test("a run may begin at an earlier checkpoint", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "agent", { input });
  const history = await client.threads.getHistory(threadId);
  const { checkpoint_id } = history.find((state) => state.next[0] === "b").checkpoint;
  await client.runs.wait(threadId, "agent", { input: { log: ["fork"] }, checkpoint: { checkpoint_id, checkpoint_ns: "" } });
  assert.deepEqual(await logOf(threadId), ["in", "a", "fork", "a", "b", "c"]);
});

test("a run on a thread that is not there makes it, if it may", async () => {
  const threadId = crypto.randomUUID();
  await assert.rejects(client.runs.create(threadId, "agent", { input }), { status: 404 });
  assert.deepEqual((await client.runs.wait(threadId, "agent", { input, ifNotExists: "create" })).log, LOG);
});

test("a client that leaves cancels its run if it said so", async () => {
  const threadId = await newThread();
  const [work, leaving] = [held("left"), new AbortController()];
  const options = { input: work.input, onDisconnect: "cancel", signal: leaving.signal };
  const reading = all(client.runs.stream(threadId, "agent", options)).catch((error) => error);
  await work.working();
  leaving.abort();
  await reading;
  await eventually(async () => (await client.runs.list(threadId))[0].status === "interrupted", { what: "interrupted" });
});

test("several runs are started by one request", async () => {
  const payloads = ["one", "two"].map((label) => ({ assistantId: "agent", input: { log: [label] } }));
  const runs = await client.runs.createBatch(payloads);
  const outputs = await Promise.all(runs.map((run) => client.runs.join(run.thread_id, run.run_id)));
  assert.deepEqual(outputs.map((output) => output.log[0]), ["one", "two"]);
});
