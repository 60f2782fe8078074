import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { all, counting, newThread } from "./support.mjs";

const refused = {
  "a thread that is not there": [404, (client) => client.threads.get(randomUUID())],
  "an id that is none": [422, (client) => client.runs.get(randomUUID(), "not-an-id")],
  "a graph that is not there": [422, async (client) => client.runs.create(await newThread(), "nothing")],
  "an assistant that is not there": [404, async (client) => client.runs.create(await newThread(), randomUUID())],
  "a strategy that is none": [422, async (client) => client.runs.create(await newThread(), "agent", { multitaskStrategy: "hope" })],
  "a stream mode that is none": [422, async (client) => all(client.runs.stream(await newThread(), "agent", { streamMode: "hope" }))],
  "a select that is none": [422, async (client) => client.runs.list(await newThread(), { select: ["hope"] })],
};

for (const [what, [status, send]] of Object.entries(refused)) {
  test(`${what} is refused with a sentence, and asked for once`, async () => {
    const { client, requests } = counting();
    await assert.rejects(send(client), (error) => {
      assert.equal(error.status, status);
      assert.equal(typeof JSON.parse(error.text).detail, "string");
      return true;
    });
    assert.equal(requests.length, 1);
  });
}
