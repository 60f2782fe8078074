// What clients show when the worker, or the API, is killed in the midst of an answer, and started again.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { describe, test } from "node:test";
import { WebSocket } from "ws";
import { mount, storage } from "./mount.mjs";
import { Client } from "@langchain/langgraph-sdk";
import { useStream } from "@langchain/langgraph-sdk/react";
import { useStream as useProtocol } from "@langchain/react";
import { Client as JsonQueriesClient } from "langgraph-sdk-json-queries";
import { client, eventually, newThread, url } from "./support.mjs";

const QUESTION = `slowly ${Array.from({ length: 80 }, (_, n) => `word${n}`).join(" ")}`;
const ANSWER = `${QUESTION} `;
const said = { messages: [{ type: "human", content: QUESTION }] };
const textOf = ({ text, content }) => text ?? content;
// All that answers say, one after the other: an answer that is shown twice would not be a beginning of the answer.
const answers = ({ messages }) => messages?.filter(({ type }) => type === "ai").map(textOf).join("") || undefined;
const shrinks = (texts) => texts.some((text, n) => n > 0 && text.length < texts[n - 1].length);

/** Kill a process of the server, and start it again. */
async function crash(role) {
  const socket = connect(Number(process.env.DURATHREAD_CRASHES), "127.0.0.1");
  socket.end(role);
  socket.resume();
  await once(socket, "close");
}

/** Let so many wait for each other, and then for what happens once. */
function meeting(parties, happens = async () => undefined) {
  let come = 0;
  let all;
  const met = new Promise((resolve) => (all = resolve)).then(happens);
  return () => {
    if (++come === parties) all();
    return met;
  };
}

const stream = (reader) => (threadId, options) => reader.runs.stream(threadId, "chat", options);

/** Stream with a package that gives up where nobody listens: come back to the run, from the last event that was read. */
const returning = (reader) =>
  async function* (threadId, options) {
    let run, lastEventId;
    const remember = { onRunCreated: (created) => (run = created) };
    let parts = stream(reader)(threadId, { ...options, ...remember });
    for (;;) {
      try {
        for await (const part of parts) {
          lastEventId = part.id;
          yield part;
        }
        return;
      } catch (error) {
        assert.match(error.message, /connect/i);
        await eventually(() => client.runs.get(threadId, run.run_id).catch(() => undefined), { what: "the API is back" });
        parts = reader.runs.joinStream(threadId, run.run_id, { lastEventId });
      }
    }
  };

/** Read a new run; what is said begins anew with each attempt. */
async function read(streamed, { ready, speaking, ...options }) {
  const threadId = await newThread();
  const texts = [""];
  const attempts = [];
  let crashed;
  let values;
  await ready();
  for await (const { event, data } of streamed(threadId, { input: said, ...options })) {
    if (event === "metadata") texts.push("") && attempts.push(data.attempt);
    if (event === "values") values = data;
    if (event !== "messages") continue;
    texts.push(texts.at(-1) + data[0].content);
    if (texts.at(-1).includes("word3")) crashed ??= speaking();
  }
  await crashed;
  const runs = await client.runs.list(threadId);
  assert.deepEqual(runs.map(({ status }) => status), ["success"]);
  assert.equal(answers(values), ANSWER);
  return { texts, attempts };
}

/** Ask on a page. Whatever happens, no render shows an answer twice, and the last one shows all of it. */
async function ask(useHook, { ready, speaking, ...options }) {
  const threadId = await newThread();
  const page = mount(() => useHook({ apiUrl: url, apiKey: null, assistantId: "chat", threadId, ...options }), answers);
  await eventually(() => page.current && !page.current.isThreadLoading, { what: "loaded" });
  await ready();
  const submitted = page.current.submit(said);
  await eventually(() => page.seen.at(-1)?.includes("word3"), { what: "some words" });
  assert.equal(page.current.isLoading, true);
  await speaking();
  await submitted;
  await eventually(() => answers(page.current) === ANSWER, { what: "the answer" });
  await eventually(() => page.current.isLoading === false, { what: "the end" });
  assert.equal(page.current.error, undefined);
  page.unmount();
  assert.deepEqual((await client.runs.list(threadId)).map(({ status }) => status), ["success"]);
  return page.seen;
}

const whole = (texts) => assert.ok(texts.every((text) => ANSWER.startsWith(text)) && texts.at(-1) === ANSWER);
const MODES = { streamMode: ["values", "messages-tuple"] };
const RESUMABLE = { ...MODES, streamResumable: true };
const CURRENT = new Client({ apiUrl: url, apiKey: null });
const JSON_QUERIES = new JsonQueriesClient({ apiUrl: url, apiKey: null });
const SOCKET = { transport: "websocket", webSocketFactory: (address) => new WebSocket(address) };

describe("the worker", { concurrency: true, timeout: 120_000 }, () => {
  const at = { ready: meeting(5), speaking: meeting(5, () => crash("worker")) };

  async function reader(streamed) {
    const { texts, attempts } = await read(streamed, { ...at, ...RESUMABLE });
    assert.deepEqual(attempts, [1, 2]);
    assert.ok(shrinks(texts));
    whole(texts);
  }

  async function page(useHook, options) {
    const seen = await ask(useHook, { ...at, ...options });
    assert.ok(shrinks(seen));
    whole(seen);
  }

  test("a reader is told that an answer begins anew, as its worker was killed", () => reader(stream(CURRENT)));
  test("a reader with the other package is told that an answer begins anew", () => reader(stream(JSON_QUERIES)));
  test("a page drops what a killed worker has said, and shows the answer once", () => page(useStream));
  test("a page of the protocol drops what a killed worker has said", () => page(useProtocol));
  test("a page with a web socket drops what a killed worker has said", () => page(useProtocol, SOCKET));
});

describe("the API", { concurrency: true, timeout: 120_000 }, () => {
  const at = { ready: meeting(7), speaking: meeting(7, () => crash("api")) };

  async function reader(streamed) {
    const { texts, attempts } = await read(streamed, { ...at, ...RESUMABLE });
    assert.deepEqual(attempts, [1]);
    assert.ok(!shrinks(texts));
    whole(texts);
  }

  async function page(useHook, options) {
    const seen = await ask(useHook, { ...at, ...options });
    assert.ok(!shrinks(seen));
    whole(seen);
  }

  test("a reader comes back to an API that was killed, and misses nothing", () => reader(stream(CURRENT)));
  test("a reader whose package gives up comes back from its last event", () => reader(returning(JSON_QUERIES)));
  test("a reader of a run that cannot be resumed comes back to its end", () => read(stream(CURRENT), { ...at, ...MODES }));
  test("a page comes back to an API that was killed, and goes on where it was", () =>
    page(useStream, { reconnectOnMount: storage }));
  test("a page whose run cannot be resumed comes back to its end", () => ask(useStream, at));
  test("a page of the protocol comes back to an API that was killed", () => page(useProtocol));
  test("a page with a web socket comes back to an API that was killed", () => page(useProtocol, SOCKET));
});
