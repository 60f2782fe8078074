import assert from "node:assert/strict";
import { test } from "node:test";
import { cuttingProxy } from "./proxy.mjs";
import { all, Client, client, held, names, newThread } from "./support.mjs";

const WORDS = Array.from({ length: 80 }, (_, n) => `word${n}`).join(" ");
const talk = { input: { messages: [{ type: "human", content: `slowly ${WORDS}` }] }, streamResumable: true };
const MODES = ["values", "messages-tuple", "updates", "custom"];
// Earlier decoders make a part of a heartbeat: without an event, without data.
const isHeartbeat = ({ event, data }) => event === "" && data === null;
const plain = (parts) => parts.filter((part) => !isHeartbeat(part)).map(({ event, data, id }) => ({ event, data, id }));

test("a resumable run that is over is read again from its beginning, and from any event of it", async () => {
  const threadId = await newThread();
  const options = { input: { log: ["in"] }, streamMode: ["values", "updates"], streamResumable: true };
  const parts = plain(await all(client.runs.stream(threadId, "agent", options)));
  const { run_id } = parts[0].data;
  assert.deepEqual(plain(await all(client.runs.joinStream(threadId, run_id, { lastEventId: "-1" }))), parts);
  for (const [n, { id }] of parts.entries()) {
    const rest = await all(client.runs.joinStream(threadId, run_id, { lastEventId: id }));
    assert.deepEqual(plain(rest), parts.slice(n + 1));
  }
});

test("a late reader of a run that works gets it from its beginning", async () => {
  const threadId = await newThread();
  const work = held("late");
  const run = await client.runs.create(threadId, "agent", { input: work.input, streamResumable: true });
  await work.working();
  const reading = all(client.runs.joinStream(threadId, run.run_id));
  work.release();
  const logs = (await reading).filter((part) => part.event === "values").map((part) => part.data.log.length);
  assert.deepEqual(logs, [1, 2, 3, 4]);
});

test("a late reader of a run that cannot be resumed gets the state so far, and what follows", async () => {
  const threadId = await newThread();
  const work = held("late");
  const run = await client.runs.create(threadId, "agent", { input: work.input });
  await work.working();
  const stream = client.runs.joinStream(threadId, run.run_id);
  const parts = [(await stream.next()).value, (await stream.next()).value];
  work.release();
  parts.push(...(await all(stream)));
  assert.deepEqual(names(parts).slice(0, 2), ["metadata", "values"]);
  assert.deepEqual(parts[1].data.log, ["late", "a"]);
  assert.deepEqual(parts.findLast((part) => part.event === "values").data.log, ["late", "a", "b", "c"]);
});

test("the last event of a stream is the last state", async () => {
  const threadId = await newThread();
  const streamed = await all(client.runs.stream(threadId, "agent", { input: { log: ["in"] }, streamMode: "values" }));
  assert.deepEqual(names(streamed), ["metadata", ...Array(4).fill("values")]);
  assert.deepEqual(streamed.at(-1).data.log, ["in", "a", "b", "c"]);
  const joined = await all(client.runs.joinStream(threadId, streamed[0].data.run_id));
  assert.deepEqual(joined.at(-1).data.log, ["in", "a", "b", "c"]);
  const stateless = await all(client.runs.stream(null, "agent", { input: { log: ["in"] }, streamMode: "values" }));
  assert.deepEqual(stateless.at(-1).data.log, ["in", "a", "b", "c"]);
});

test("a join shows the modes asked for, and which attempt it is", async () => {
  const threadId = await newThread();
  const streamMode = ["values", "updates", "checkpoints"];
  const run = await client.runs.create(threadId, "agent", { input: { log: [] }, streamMode, streamResumable: true });
  for (const asked of ["updates", ["updates"], ["updates", "checkpoints"]]) {
    const parts = await all(client.runs.joinStream(threadId, run.run_id, { streamMode: asked, lastEventId: "-1" }));
    assert.deepEqual(new Set(names(parts)), new Set(["metadata", ...[asked].flat()]));
  }
});

test("a reader whose connection is cut at random gets every event once, in order", async () => {
  const threadId = await newThread();
  const run = await client.runs.create(threadId, "chat", { ...talk, streamMode: MODES });
  const uncut = all(client.runs.joinStream(threadId, run.run_id, { lastEventId: "-1" }));
  const readers = await Promise.all(Array.from({ length: 4 }, () => cuttingProxy(process.env.DURATHREAD_URL, { cuts: 2, most: 30_000 })));
  const cut = readers.map(({ url }) => {
    const elsewhere = new Client({ apiUrl: url, apiKey: null });
    return all(elsewhere.runs.joinStream(threadId, run.run_id, { lastEventId: "-1" }));
  });
  const expected = plain(await uncut);
  for (const parts of await Promise.all(cut)) assert.deepEqual(plain(parts), expected);
  assert.ok(expected.length > 80);
  for (const { made, close } of readers) {
    assert.equal(made.length, 2);
    close();
  }
});

test("a stream of a new run that is cut at random goes on without a lost or doubled event", async () => {
  const threadId = await newThread();
  const proxy = await cuttingProxy(process.env.DURATHREAD_URL, { cuts: 2, most: 20_000 });
  const elsewhere = new Client({ apiUrl: proxy.url, apiKey: null });
  const parts = plain(await all(elsewhere.runs.stream(threadId, "chat", { ...talk, streamMode: MODES })));
  proxy.close();
  const { run_id } = parts[0].data;
  assert.equal(proxy.made.length, 2);
  assert.deepEqual(parts, plain(await all(client.runs.joinStream(threadId, run_id, { lastEventId: "-1" }))));
  assert.equal((await client.runs.list(threadId)).length, 1);
});

test("a cut stream of a thread goes on without a lost or doubled event", async () => {
  const threadId = await newThread();
  const proxy = await cuttingProxy(process.env.DURATHREAD_URL, { cuts: 2, most: 20_000 });
  const elsewhere = new Client({ apiUrl: proxy.url, apiKey: null });
  const uptoDone = async (reader) => {
    const parts = [];
    for await (const part of reader.threads.joinStream(threadId, { lastEventId: "-" })) {
      parts.push(part);
      if (part.data?.status === "run_done") return plain(parts);
    }
    throw new Error("the stream of a thread does not end");
  };
  const reading = uptoDone(elsewhere);
  await client.runs.create(threadId, "chat", { ...talk, streamMode: MODES });
  const parts = await reading;
  proxy.close();
  assert.equal(proxy.made.length, 2);
  assert.deepEqual(parts, await uptoDone(client));
  assert.ok(parts.length > 80);
});
