import assert from "node:assert/strict";
import { test } from "node:test";
import { all, client, newThread } from "./support.mjs";

test("every graph has an assistant, found by its graph's name", async () => {
  const [found, ...others] = await client.assistants.search({ graphId: "agent", metadata: { created_by: "system" } });
  assert.equal(found.graph_id, "agent");
  assert.deepEqual(others, []);
  assert.deepEqual(await client.assistants.get(found.assistant_id), found);
});

test("a search for assistants can be asked where the next page begins", async () => {
  const page = await client.assistants.search({ limit: 2, includePagination: true });
  assert.equal(page.assistants.length, 2);
  assert.equal(page.next, "2");
});

test("an assistant's graph is drawn, and its state described", async () => {
  const { nodes } = await client.assistants.getGraph("agent");
  assert.deepEqual(nodes.map((node) => node.id), ["__start__", "a", "b", "c", "__end__"]);
  const [{ assistant_id }] = await client.assistants.search({ graphId: "agent" });
  const schemas = await client.assistants.getSchemas(assistant_id);
  assert.ok("log" in schemas.state_schema.properties);
});

test("the subgraphs of an assistant are listed, all levels of them", async () => {
  const [{ assistant_id }] = await client.assistants.search({ graphId: "nested_chat" });
  assert.deepEqual(Object.keys(await client.assistants.getSubgraphs(assistant_id, { recurse: true })), ["sub"]);
});

test("an assistant has versions, of which one is used, and goes when it is deleted", async () => {
  const { assistant_id } = await client.assistants.create({ graphId: "configured", name: "made in JavaScript" });
  await client.assistants.update(assistant_id, { metadata: { made: "by JavaScript" } });
  const versions = await client.assistants.getVersions(assistant_id);
  assert.deepEqual(versions.map((version) => version.version), [2, 1]);
  assert.equal((await client.assistants.setLatest(assistant_id, 1)).version, 1);
  assert.equal(await client.assistants.count({ name: "made in javascript" }), 1);
  assert.equal(await client.assistants.delete(assistant_id), undefined);
  await assert.rejects(client.assistants.get(assistant_id), { status: 404 });
});

test("a run can name its assistant by id", async () => {
  const [{ assistant_id }] = await client.assistants.search({ graphId: "agent" });
  const parts = await all(client.runs.stream(await newThread(), assistant_id, { input: { log: ["by id"] } }));
  assert.deepEqual(parts.findLast((part) => part.event === "values").data.log, ["by id", "a", "b", "c"]);
});
