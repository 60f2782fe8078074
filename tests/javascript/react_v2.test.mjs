// `useStream` of @langchain/react, which speaks the streaming protocol.

import assert from "node:assert/strict";
import { test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { WebSocket } from "ws";
import { mount } from "./mount.mjs";
import { useChannel, useExtension, useMessageMetadata, useMessages, useStream, useSubmissionQueue } from "@langchain/react";
import { client, eventually, held, newThread, url } from "./support.mjs";

const WORDS = Array.from({ length: 40 }, (_, n) => `word${n}`).join(" ");
const QUICK = "one two three";
const SLOW = `slowly ${WORDS}`;
const said = (content) => ({ messages: [{ type: "human", content }] });
const answerIn = (stream) => stream.messages.findLast((message) => message.type === "ai")?.text || undefined;
const texts = (page) => page.current.messages.map((message) => message.text);
const begins = (seen, whole) => seen.every((text) => whole.startsWith(text));
const statuses = async (threadId) => (await client.runs.list(threadId)).map(({ status }) => status);

function use(assistantId, options = {}) {
  return mount(() => useStream({ apiUrl: url, apiKey: null, assistantId, ...options }), answerIn);
}

async function loaded(page) {
  return eventually(() => page.current && !page.current.isThreadLoading && page.current, { what: "loaded" });
}

const shows = (page, expected) =>
  eventually(() => isDeepStrictEqual(texts(page), expected), { what: `messages ${expected}` }).catch((error) => {
    assert.deepEqual(texts(page), expected);
    throw error;
  });

async function ended(page, what = "the run has ended") {
  return eventually(() => page.current?.isLoading === false && page.current, { what });
}

test("a message that is submitted makes a thread, and its answer comes in pieces, by the protocol", async () => {
  let threadId, created;
  const page = use("chat", { onThreadId: (id) => (threadId = id), onCreated: (run) => (created = run) });
  await loaded(page);
  await page.current.submit(said(SLOW));
  await shows(page, [SLOW, `${SLOW} `]);
  await ended(page);
  assert.ok(page.seen.length > 10);
  assert.ok(begins(page.seen, `${SLOW} `));
  assert.equal(page.current.error, undefined);
  assert.equal((await client.runs.get(threadId, created.run_id ?? created.runId)).status, "success");
  page.unmount();
});

test("a second message is answered on the same stream", async () => {
  const page = use("chat");
  await loaded(page);
  const shown = [];
  for (const text of ["one", "two", "three"]) {
    await page.current.submit(said(text));
    await shows(page, (shown.push(text, `${text} `), shown));
  }
  await ended(page);
  page.unmount();
});

const PROGRESS = [{ states: 1 }, { states: 2 }, { states: 3 }, { all: 3 }];

test("what a transformer says on a channel of its own reaches useExtension", async () => {
  const page = mount(
    () => {
      const stream = useStream({ apiUrl: url, apiKey: null, assistantId: "counted" });
      return { stream, progress: useExtension(stream, "progress") };
    },
    ({ progress }) => progress && JSON.stringify(progress),
  );
  await eventually(() => page.current && !page.current.stream.isThreadLoading, { what: "loaded" });
  await page.current.stream.submit({ word: "one" });
  await eventually(() => page.seen.at(-1) === JSON.stringify(PROGRESS.at(-1)), { what: "the last count" });
  // React may render once for several.
  const expected = PROGRESS.map((each) => JSON.stringify(each));
  assert.deepEqual(page.seen, expected.filter((each) => page.seen.includes(each)));
  page.unmount();
});

test("what a transformer says on a channel of its own reaches thread.extensions", async () => {
  const thread = client.threads.stream(await newThread(), { assistantId: "counted" });
  const found = [];
  const reading = (async () => {
    for await (const each of thread.extensions.progress) if (found.push(each) === PROGRESS.length) break;
  })();
  await thread.run.start({ input: { word: "one" } });
  await reading;
  assert.deepEqual(found, PROGRESS);
  await thread.close();
});

test("stopping cancels the run", async () => {
  const threadId = await newThread();
  const page = use("chat", { threadId });
  await loaded(page);
  const submitted = page.current.submit(said(SLOW));
  await eventually(() => page.seen.at(-1)?.includes("word3"), { what: "some words" });
  await page.current.stop();
  await submitted;
  await eventually(async () => (await statuses(threadId))[0] === "interrupted", { what: "interrupted" });
  assert.equal(page.current.isLoading, false);
  page.unmount();
});

test("a page that is opened again goes on with the run that works", async () => {
  const threadId = await newThread();
  const page = use("chat", { threadId });
  await loaded(page);
  void page.current.submit(said(SLOW));
  await eventually(() => page.seen.at(-1)?.includes("word3"), { what: "some words" });
  page.unmount();
  const again = use("chat", { threadId });
  await eventually(() => again.seen.at(-1) === `${SLOW} `, { what: "all words" });
  await ended(again);
  assert.ok(again.seen.length > 1);
  assert.ok(begins(again.seen, `${SLOW} `));
  assert.deepEqual(texts(again), [SLOW, `${SLOW} `]);
  assert.deepEqual(await statuses(threadId), ["success"]);
  again.unmount();
});

test("two pages on one thread see the same", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "chat", { input: said("hello"), interruptBefore: [] });
  const work = held("busy");
  const [one, two] = [use("agent", { threadId }), use("agent", { threadId })];
  await Promise.all([loaded(one), loaded(two)]);
  const submitted = one.current.submit(work.input);
  await work.working();
  const three = use("agent", { threadId });
  await loaded(three);
  work.release();
  await submitted;
  for (const page of [one, three]) {
    await eventually(() => page.current.values.log?.length === 4 && !page.current.isLoading, { what: "all values" });
    page.unmount();
  }
  two.unmount();
});

test("a question of the graph is shown and answered", async () => {
  const page = use("hitl");
  await loaded(page);
  await page.current.submit({ log: [] });
  await eventually(() => page.current.interrupt?.value === "ask?", { what: "the question" });
  await page.current.respond("yes");
  await eventually(() => page.current.values.log?.length === 2, { what: "the answer" });
  await ended(page);
  assert.deepEqual(page.current.values.log, ["ask=yes", "after"]);
  assert.deepEqual(page.current.interrupts, []);
  page.unmount();
});

test("a question is answered by a page that comes later", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "hitl", { input: { log: [] } });
  const page = use("hitl", { threadId });
  await eventually(() => page.current?.interrupt?.value === "ask?", { what: "the question" });
  await page.current.respond("later", { interruptId: page.current.interrupt.id });
  await eventually(() => page.current.values.log?.length === 2, { what: "the answer" });
  assert.deepEqual(page.current.values.log, ["ask=later", "after"]);
  page.unmount();
});

test("several questions are answered at once", async () => {
  const page = use("both");
  await loaded(page);
  await page.current.submit({ log: [] });
  await eventually(() => page.current.interrupts.length === 2, { what: "two questions" });
  const answers = page.current.interrupts.map(({ id, value }) => [id, value === "left?" ? "L" : "R"]);
  await page.current.respondAll(Object.fromEntries(answers));
  await eventually(() => page.current.values.log?.length === 3, { what: "the answers" });
  assert.deepEqual(new Set(page.current.values.log), new Set(["left=L", "right=R", "after"]));
  page.unmount();
});

test("messages wait in the page until their turn", async () => {
  const page = mount(() => {
    const stream = useStream({ apiUrl: url, apiKey: null, assistantId: "chat" });
    return { stream, queue: useSubmissionQueue(stream) };
  }, ({ stream }) => answerIn(stream));
  await eventually(() => page.current, { what: "mounted" });
  const first = page.current.stream.submit(said(SLOW));
  await eventually(() => page.seen.at(-1)?.includes("word3"), { what: "some words" });
  for (const text of ["two", "three"]) await page.current.stream.submit(said(text), { multitaskStrategy: "enqueue" });
  await eventually(() => page.current.queue.size === 2, { what: "two wait" });
  await page.current.queue.cancel(page.current.queue.entries[0].id);
  await first;
  await eventually(() => page.seen.at(-1) === "three ", { what: "the last answer" });
  await eventually(() => !page.current.stream.isLoading, { what: "the end" });
  const shown = page.current.stream.messages.map((message) => message.text);
  assert.deepEqual(shown, [SLOW, `${SLOW} `, "three", "three "]);
  page.unmount();
});

/** Send a second message while the first is answered; return what the page shows, what the thread holds, and its runs. */
async function replaced(multitaskStrategy, assistantId = "chat") {
  const threadId = await newThread();
  const page = use(assistantId, { threadId });
  await loaded(page);
  const first = page.current.submit(said(SLOW));
  await eventually(() => page.seen.at(-1)?.includes("word3"), { what: "some words" });
  await page.current.submit(said(QUICK), { multitaskStrategy });
  await first;
  // Where it puts what no state has, is the hook's own affair.
  await eventually(() => texts(page).includes(`${QUICK} `), { what: "the second answer" });
  await eventually(async () => (await statuses(threadId))[0] === "success", { what: "the end" });
  await ended(page);
  const { messages } = (await client.threads.getState(threadId)).values;
  page.unmount();
  return [texts(page), messages.map(({ content }) => content), await statuses(threadId)];
}

test("a second message that interrupts takes the place of the first, which stays as far as it came", async () => {
  const [shown, held, runs] = await replaced("interrupt");
  assert.deepEqual([held, runs], [[SLOW, QUICK, `${QUICK} `], ["success", "interrupted"]]);
  const cut = shown.filter((text) => text && text !== SLOW && SLOW.startsWith(text));
  assert.equal(cut.length, 1);
});

test("a second message that rolls back leaves nothing of the first, on the page and in the thread", async () => {
  const expected = [QUICK, `${QUICK} `];
  assert.deepEqual(await replaced("rollback"), [expected, expected, ["success"]]);
});

test("a run of several steps that is rolled back leaves nothing, the messages that were complete included", async () => {
  const [shown, held, runs] = await replaced("rollback", "stages");
  assert.deepEqual(shown, held);
  assert.deepEqual([held, runs], [[QUICK, "Well. ", QUICK, `${QUICK} `], ["success"]]);
});

test("what a cancelled run had said is gone when it is rolled back, and what was before stays", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "stages", { input: said("one") });
  const before = ["one", "Well. ", "one", "one "];
  const page = use("stages", { threadId });
  await loaded(page);
  const submitted = page.current.submit(said(SLOW));
  await eventually(() => page.seen.at(-1)?.includes("word3"), { what: "some words" });
  const other = use("stages", { threadId });
  await eventually(() => other.seen.at(-1)?.includes("word3"), { what: "the same words" });
  const [run] = await client.runs.list(threadId);
  await client.runs.cancel(threadId, run.run_id, true, "rollback");
  await submitted;
  for (const each of [page, other]) {
    await shows(each, before);
    await ended(each);
    assert.equal(each.current.error, undefined);
    each.unmount();
  }
});

test("a page that is opened after a rollback shows nothing of it", async () => {
  const threadId = await newThread();
  const page = use("stages", { threadId });
  await loaded(page);
  void page.current.submit(said(SLOW));
  await eventually(() => page.seen.at(-1)?.includes("word3"), { what: "some words" });
  const second = page.current.submit(said(`slowly ${QUICK}`), { multitaskStrategy: "rollback" });
  await eventually(async () => (await client.threads.getState(threadId)).values.messages?.length === 3, { what: "midst" });
  const late = use("stages", { threadId });
  await second;
  for (const each of [page, late]) {
    await shows(each, [`slowly ${QUICK}`, "Well. ", `slowly ${QUICK}`, `slowly ${QUICK} `]);
    each.unmount();
  }
});

test("a message is edited by a fork from before it", async () => {
  const threadId = await newThread();
  const page = mount(() => {
    const stream = useStream({ apiUrl: url, apiKey: null, assistantId: "chat", threadId });
    return { ...stream, metadata: useMessageMetadata(stream, stream.messages[0]?.id) };
  });
  await loaded(page);
  await page.current.submit(said("one"));
  // What the hook says of a message, it says of the newest checkpoint that has it: that of its own run's answer.
  await eventually(() => texts(page).length === 2 && page.current.metadata?.parentCheckpointId, { what: "a checkpoint" });
  const history = await client.threads.getHistory(threadId);
  assert.equal(page.current.metadata.parentCheckpointId, history[0].parent_checkpoint.checkpoint_id);
  await page.current.submit(said("two"));
  await shows(page, ["one", "one ", "two", "two "]);
  const forkFrom = history[0].checkpoint.checkpoint_id;
  await page.current.submit(said("three"), { forkFrom });
  await shows(page, ["one", "one ", "three", "three "]);
  const { messages } = (await client.threads.getState(threadId)).values;
  assert.deepEqual(messages.map(({ content }) => content), ["one", "one ", "three", "three "]);
  page.unmount();
});

/** Show a thread with these turns; return the page, and what goes on from where the thread first had so many messages. */
async function turns(threadId, ...messages) {
  const page = use("chat", { threadId });
  await loaded(page);
  for (const text of messages) {
    await page.current.submit(said(text));
    await eventually(() => texts(page).at(-1) === `${text} `, { what: `the answer to ${text}` });
  }
  const from = async (count, input) => {
    const history = await client.threads.getHistory(threadId, { limit: 50 });
    const at = history.findLast(({ values }) => (values.messages?.length ?? 0) === count);
    await page.current.submit(input, { forkFrom: at.checkpoint.checkpoint_id });
  };
  return { page, from };
}

/** See that a page shows what its thread has, and so does one that is opened now. */
async function showsAll(page, threadId, expected) {
  await shows(page, expected);
  await ended(page);
  const { messages } = (await client.threads.getState(threadId)).values;
  assert.deepEqual([messages.map(({ content }) => content), texts(page)], [expected, expected]);
  const late = use("chat", { threadId });
  await loaded(late);
  await shows(late, expected);
  late.unmount();
}

test("an edit of the message before the last, and of that again, leaves nothing of what came after it", async () => {
  const threadId = await newThread();
  const { page, from } = await turns(threadId, "one", "two", "three");
  await from(2, said("TWO"));
  await showsAll(page, threadId, ["one", "one ", "TWO", "TWO "]);
  await from(2, said("2"));
  await showsAll(page, threadId, ["one", "one ", "2", "2 "]);
  await from(0, said("ONE"));
  await showsAll(page, threadId, ["ONE", "ONE "]);
  page.unmount();
});

test("an edit of what was edited before leaves nothing of what was said since", async () => {
  const threadId = await newThread();
  const { page, from } = await turns(threadId, "one", "two", "three", "four");
  await from(2, said("TWO"));
  await showsAll(page, threadId, ["one", "one ", "TWO", "TWO "]);
  await page.current.submit(said("next"));
  await showsAll(page, threadId, ["one", "one ", "TWO", "TWO ", "next", "next "]);
  await from(2, said("2"));
  await showsAll(page, threadId, ["one", "one ", "2", "2 "]);
  page.unmount();
});

test("an answer before the last is given again, and nothing is left of what came after it", async () => {
  const threadId = await newThread();
  const { page, from } = await turns(threadId, "one", "two", "three");
  const old = page.current.messages[3].id;
  await from(3, null);
  await showsAll(page, threadId, ["one", "one ", "two", "two "]);
  assert.notEqual(page.current.messages[3].id, old);
  page.unmount();
});

test("an edit of a message whose answer took more steps than the new one leaves nothing of it", async () => {
  const threadId = await newThread();
  await client.runs.wait(threadId, "chat", { input: said("one") });
  await client.runs.wait(threadId, "stages", { input: said("two") });
  const { page, from } = await turns(threadId);
  await shows(page, ["one", "one ", "two", "Well. ", "two", "two "]);
  await from(2, said("TWO"));
  await showsAll(page, threadId, ["one", "one ", "TWO", "TWO "]);
  page.unmount();
});

test("a failing run is told with its reason, by the protocol", async () => {
  const page = use("agent");
  await loaded(page);
  await page.current.submit({ log: ["in"], do: { b: { fail: "as asked" } } });
  await eventually(() => page.current.error, { what: "an error" });
  assert.match(page.current.error.message, /as asked/);
  assert.equal(page.current.isLoading, false);
  page.unmount();
});

test("a subgraph is found, and its messages are followed", async () => {
  const page = mount(() => {
    const stream = useStream({ apiUrl: url, apiKey: null, assistantId: "nested_chat" });
    const [subgraph] = stream.subgraphsByNode.get("sub") ?? [];
    return { stream, subgraph, inner: useMessages(stream, subgraph) };
  });
  await eventually(() => page.current, { what: "mounted" });
  const submitted = page.current.stream.submit(said(SLOW));
  await eventually(() => page.current.subgraph, { what: "the subgraph" });
  assert.match(page.current.subgraph.namespace.at(-1), /^sub:/);
  await submitted;
  await eventually(() => page.current.inner.some((message) => message.text === `${SLOW} `), { what: "its answer" });
  assert.equal(page.current.subgraph.status, "complete");
  page.unmount();
});

test("what a graph tells beside its messages is followed", async () => {
  const page = mount(() => {
    const stream = useStream({ apiUrl: url, apiKey: null, assistantId: "chat" });
    return { stream, custom: useChannel(stream, ["custom"]) };
  });
  await eventually(() => page.current, { what: "mounted" });
  await page.current.stream.submit(said("hello"));
  await eventually(() => page.current.custom.length > 0, { what: "a custom event" });
  assert.deepEqual(page.current.custom.map((event) => event.params.data.payload), [{ speaking: true }]);
  page.unmount();
});

test("a thread that has ended is shown as it is", async () => {
  const threadId = await newThread();
  for (const text of ["one", "two"]) await client.runs.wait(threadId, "chat", { input: said(text) });
  const page = use("chat", { threadId });
  await eventually(() => page.current?.messages.length === 4, { what: "four messages" });
  assert.deepEqual(texts(page), ["one", "one ", "two", "two "]);
  await page.current.submit(said("three"));
  await shows(page, ["one", "one ", "two", "two ", "three", "three "]);
  await ended(page);
  page.unmount();
});

test("a page watches over a web socket", async () => {
  const webSocketFactory = (address) => new WebSocket(address);
  const page = use("chat", { transport: "websocket", webSocketFactory });
  await loaded(page);
  await page.current.submit(said(SLOW));
  await shows(page, [SLOW, `${SLOW} `]);
  await ended(page);
  assert.ok(page.seen.length > 10);
  page.unmount();
});

test("the calls of tools are shown with their results", async () => {
  const page = use("toolbox");
  await loaded(page);
  await page.current.submit(said("weather Paris"));
  await eventually(() => page.current.toolCalls[0]?.status === "finished", { what: "a finished call" });
  await ended(page);
  const [call] = page.current.toolCalls;
  assert.deepEqual([call.name, call.input, page.current.toolCalls.length], ["weather", { city: "Paris" }, 1]);
  assert.match(JSON.stringify(call.output), /sunny in Paris/);
  await eventually(() => texts(page).at(-1) === "It is sunny in Paris", { what: "the answer" });
  page.unmount();
});
