// What the tests of clients share: a client of the server, and graphs that wait until they are told to go on.

import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const url = process.env.DURATHREAD_URL;
export const { Client } = await import(process.env.DURATHREAD_SDK ?? "@langchain/langgraph-sdk");
export const client = new Client({ apiUrl: url, apiKey: null });

/** A client whose requests are counted. */
export function counting(options = {}) {
  const requests = [];
  const fetch = (target, init) => {
    requests.push(`${init?.method ?? "GET"} ${new URL(target).pathname}`);
    return globalThis.fetch(target, init);
  };
  return { requests, client: new Client({ apiUrl: url, apiKey: null, callerOptions: { fetch }, ...options }) };
}

export async function newThread(payload) {
  return (await client.threads.create(payload)).thread_id;
}

/** Read a stream to its end. */
export async function all(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

/** Read a stream until a part is what is looked for, and return that. */
export async function first(stream, found) {
  for await (const part of stream) if (found(part)) return part;
  throw new Error("the stream ended before what was looked for");
}

export async function eventually(check, { what = String(check), timeout = 60_000 } = {}) {
  const end = Date.now() + timeout;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${timeout} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Input of the graph a → b → c. Its node b waits until it is let go. */
export function held(label) {
  const folder = mkdtempSync(join(tmpdir(), "durathread-"));
  const [gate, trace] = [join(folder, "gate"), join(folder, "trace")];
  return {
    input: { log: [label], do: { b: { trace, until: gate } } },
    working: () => eventually(() => existsSync(trace), { what: `${label} works` }),
    release: () => writeFileSync(gate, ""),
  };
}

export async function logOf(threadId) {
  return (await client.threads.getState(threadId)).values.log ?? [];
}

export const names = (parts) => parts.map((part) => part.event);
