// `useStream` of @langchain/langgraph-sdk/react, which speaks the first protocol.

import assert from "node:assert/strict";
import { test } from "node:test";
import { mount, storage } from "./mount.mjs";
import { useStream } from "@langchain/langgraph-sdk/react";
import { client, eventually, held, newThread, url } from "./support.mjs";

const WORDS = Array.from({ length: 40 }, (_, n) => `word${n}`).join(" ");
const QUICK = "one two three";
const SLOW = `slowly ${WORDS}`;
const said = (text) => ({ messages: [{ type: "human", content: text }] });
const answerIn = (stream) => stream.messages.findLast((message) => message.type === "ai")?.content;
const chat = (options = {}) => mount(() => useStream({ apiUrl: url, assistantId: "chat", apiKey: null, ...options }), answerIn);
const begins = (texts, whole) => texts.every((text) => whole.startsWith(text));
const texts = (page) => page.current.messages.map((message) => message.content);

async function ended(page, what = "the run has ended") {
  return eventually(() => page.current?.isLoading === false && page.current, { what });
}

async function loaded(page) {
  return eventually(() => page.current && !page.current.isThreadLoading && page.current, { what: "loaded" });
}

test("a message that is submitted makes a thread, and its answer comes in pieces", async () => {
  let threadId, created, finished;
  const page = chat({
    onThreadId: (id) => (threadId = id),
    onCreated: (run) => (created = run),
    onFinish: (state) => (finished = state),
  });
  const { submit } = await loaded(page);
  await submit(said(SLOW));
  await ended(page);
  assert.ok(page.seen.length > 10);
  assert.ok(begins(page.seen, `${SLOW} `));
  assert.equal(page.seen.at(-1), `${SLOW} `);
  assert.deepEqual(finished.values.messages.map(({ content }) => content), [SLOW, `${SLOW} `]);
  assert.equal((await client.runs.get(threadId, created.run_id)).status, "success");
  page.unmount();
});

test("stopping a stream stops its run", async () => {
  const threadId = await newThread();
  const page = chat({ threadId });
  await loaded(page);
  const submitted = page.current.submit(said(SLOW));
  await eventually(() => page.seen.at(-1)?.includes("word3"), { what: "some words" });
  await page.current.stop();
  await submitted;
  await eventually(async () => (await client.runs.list(threadId))[0].status === "interrupted", { what: "interrupted" });
  assert.equal((await client.threads.getState(threadId)).values.messages.length, 1);
  page.unmount();
});

test("a page that is left and opened again goes on with the run, without a lost or doubled word", async () => {
  const threadId = await newThread();
  const kept = storage();
  const reopened = () => chat({ threadId, reconnectOnMount: () => kept, fetchStateHistory: true });
  const page = reopened();
  await loaded(page);
  const submitted = page.current.submit(said(SLOW));
  await eventually(() => page.seen.at(-1)?.includes("word3"), { what: "some words" });
  page.current.switchThread(null);
  page.unmount();
  await submitted;
  assert.equal(kept.size(), 1);
  const again = reopened();
  await eventually(() => again.seen.at(-1) === `${SLOW} `, { what: "all words" });
  await ended(again);
  assert.ok(again.seen.length > 1);
  assert.ok(begins(again.seen, `${SLOW} `));
  assert.deepEqual(texts(again), [SLOW, `${SLOW} `]);
  assert.deepEqual((await client.runs.list(threadId)).map(({ status }) => status), ["success"]);
  assert.equal(kept.size(), 0);
  again.unmount();
});

test("a question of the graph is shown, also to a page that comes later, and answered", async () => {
  const threadId = await newThread();
  const asking = () => mount(() => useStream({ apiUrl: url, apiKey: null, assistantId: "hitl", threadId, fetchStateHistory: true }), (stream) => stream.values);
  const page = asking();
  await loaded(page);
  await page.current.submit({ log: [] });
  assert.equal((await ended(page)).interrupt.value, "ask?");
  page.unmount();
  const later = asking();
  await eventually(() => later.current?.interrupt?.value === "ask?", { what: "the question" });
  await later.current.submit(null, { command: { resume: "yes" } });
  await ended(later);
  assert.equal(later.current.interrupt, undefined);
  assert.deepEqual(later.current.values.log, ["ask=yes", "after"]);
  later.unmount();
});

test("of two questions, the one that was answered is not asked again", async () => {
  const threadId = await newThread();
  const options = { apiUrl: url, apiKey: null, assistantId: "both", threadId, fetchStateHistory: true };
  const page = mount(() => useStream(options), (stream) => stream.values);
  const asked = () => page.current.interrupts.map(({ value }) => value).sort();
  await loaded(page);
  await page.current.submit({ log: [] });
  await ended(page);
  assert.deepEqual(asked(), ["left?", "right?"]);
  for (const left of [["right?"], []]) {
    const { id, value } = page.current.interrupts.find((each) => !left.includes(each.value));
    await page.current.submit(null, { command: { resume: { [id]: value } } });
    await ended(page);
    assert.deepEqual(asked(), left);
  }
  assert.deepEqual(page.current.values.log, ["left=left?", "right=right?", "after"]);
  page.unmount();
});

test("a message that is edited has two versions, between which one can turn", async () => {
  const threadId = await newThread();
  const page = chat({ threadId, fetchStateHistory: true });
  await loaded(page);
  await page.current.submit(said("first"));
  await ended(page);
  const message = page.current.messages[0];
  const { parent_checkpoint } = page.current.getMessagesMetadata(message).firstSeenState;
  await page.current.submit(said("second"), { checkpoint: parent_checkpoint });
  await ended(page);
  assert.deepEqual(texts(page), ["second", "second "]);
  const { branch, branchOptions } = page.current.getMessagesMetadata(page.current.messages[0]);
  assert.deepEqual([branchOptions.length, branchOptions.indexOf(branch)], [2, 1]);
  page.current.setBranch(branchOptions[0]);
  await eventually(() => texts(page)[0] === "first", { what: "the first version" });
  assert.deepEqual(texts(page), ["first", "first "]);
  page.unmount();
});

test("a second message that interrupts takes the place of the first", async () => {
  const threadId = await newThread();
  const page = chat({ threadId, fetchStateHistory: true });
  await loaded(page);
  const first = page.current.submit(said(SLOW));
  await eventually(() => page.seen.at(-1)?.includes("word3"), { what: "some words" });
  await page.current.submit(said(QUICK), { multitaskStrategy: "interrupt" });
  await first;
  await ended(page);
  assert.deepEqual(texts(page), [SLOW, QUICK, `${QUICK} `]);
  assert.deepEqual((await client.runs.list(threadId)).map(({ status }) => status), ["success", "interrupted"]);
  page.unmount();
});

test("a second message that rolls back leaves nothing of the first", async () => {
  const threadId = await newThread();
  const page = chat({ threadId, fetchStateHistory: true });
  await loaded(page);
  const first = page.current.submit(said(SLOW));
  await eventually(() => page.seen.at(-1)?.includes("word3"), { what: "some words" });
  await page.current.submit(said(QUICK), { multitaskStrategy: "rollback" });
  await first;
  await ended(page);
  assert.deepEqual(texts(page), [QUICK, `${QUICK} `]);
  assert.deepEqual((await client.runs.list(threadId)).map(({ status }) => status), ["success"]);
  page.unmount();
});

test("messages that are submitted at once are answered in order", async () => {
  const threadId = await newThread();
  const page = chat({ threadId, fetchStateHistory: true });
  await loaded(page);
  await Promise.all(["one", "two", "three"].map((text) => page.current.submit(said(text))));
  await ended(page);
  assert.deepEqual(texts(page), ["one", "one ", "two", "two ", "three", "three "]);
  page.unmount();
});

test("a failing run is told with its reason", async () => {
  const told = [];
  const options = { apiUrl: url, apiKey: null, assistantId: "agent", onError: (error) => told.push(error.message) };
  const page = mount(() => useStream(options), (stream) => stream.values);
  await loaded(page);
  await page.current.submit({ log: ["in"], do: { b: { fail: "as asked" } } });
  await eventually(() => page.current.error, { what: "an error" });
  assert.equal(page.current.error.message, "as asked");
  assert.deepEqual(told, ["as asked"]);
  page.unmount();
});

test("a page that comes after a failure shows its reason", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "agent", { input: { log: [], do: { b: { fail: "as asked" } } }, raiseError: false });
  const page = mount(() => useStream({ apiUrl: url, apiKey: null, assistantId: "agent", threadId, fetchStateHistory: true }));
  await eventually(() => String(page.current?.error).includes("as asked"), { what: "the reason" });
  page.unmount();
});

test("what a graph and its subgraphs tell reaches the page with its place", async () => {
  const [updates, custom, tasks] = [[], [], []];
  const page = mount(() =>
    useStream({
      apiUrl: url,
      apiKey: null,
      assistantId: "nested_chat",
      onUpdateEvent: (data, { namespace }) => updates.push([namespace?.[0].split(":")[0], Object.keys(data)[0]]),
      onCustomEvent: (data) => custom.push(data),
      onTaskEvent: (data, { namespace }) => tasks.push(namespace),
    }),
  );
  await loaded(page);
  await page.current.submit(said("deep"), { streamSubgraphs: true });
  await ended(page);
  assert.deepEqual(updates, [["sub", "speak"], [undefined, "sub"], [undefined, "last"]]);
  assert.deepEqual(custom, [{ speaking: true }, { speaking: true }]);
  assert.ok(tasks.some((namespace) => namespace !== undefined));
  page.unmount();
});

test("a run that was started elsewhere is joined", async () => {
  const threadId = await newThread();
  const page = chat({ threadId });
  await loaded(page);
  const options = { input: said(SLOW), streamMode: ["values", "messages-tuple"], streamResumable: true };
  const run = await client.runs.create(threadId, "chat", options);
  await page.current.joinStream(run.run_id);
  await ended(page);
  assert.equal(page.seen.at(-1), `${SLOW} `);
  assert.ok(begins(page.seen, `${SLOW} `));
  page.unmount();
});

test("a page shows a thread as it is, with its state alone or with its history", async () => {
  const threadId = await newThread();
  for (const text of ["one", "two"]) await client.runs.wait(threadId, "chat", { input: said(text) });
  for (const fetchStateHistory of [false, true, { limit: 2 }]) {
    const page = chat({ threadId, fetchStateHistory });
    await eventually(() => page.current?.messages.length === 4, { what: "four messages" });
    assert.deepEqual(texts(page), ["one", "one ", "two", "two "]);
    page.unmount();
  }
});

test("a page may be left while a run works that must not end with it", async () => {
  const threadId = await newThread();
  const work = held("alone");
  const page = mount(() => useStream({ apiUrl: url, apiKey: null, assistantId: "agent", threadId }), (stream) => stream.values);
  await loaded(page);
  const submitted = page.current.submit(work.input, { onDisconnect: "continue" });
  await work.working();
  page.current.switchThread(null);
  page.unmount();
  await submitted;
  work.release();
  const [run] = await client.runs.list(threadId);
  assert.deepEqual((await client.runs.join(threadId, run.run_id)).log, ["alone", "a", "b", "c"]);
});
