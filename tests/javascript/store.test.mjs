import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { client } from "./support.mjs";

test("an item is put, found, listed and deleted", async () => {
  const namespace = ["javascript", randomUUID()];
  assert.equal(await client.store.putItem(namespace, "key", { colour: "red" }), undefined);
  assert.deepEqual((await client.store.getItem(namespace, "key")).value, { colour: "red" });
  const found = await client.store.searchItems(namespace, { filter: { colour: "red" } });
  assert.deepEqual(found.items.map((item) => item.key), ["key"]);
  assert.deepEqual(await client.store.listNamespaces({ prefix: namespace }), { namespaces: [namespace] });
  assert.equal(await client.store.deleteItem(namespace, "key"), undefined);
  assert.equal(await client.store.getItem(namespace, "key"), null);
});

test("a search of items is bounded, and goes on behind an offset", async () => {
  const namespace = ["javascript", randomUUID()];
  for (const key of ["a", "b", "c"]) await client.store.putItem(namespace, key, { key });
  const keys = new Set();
  for (const offset of [0, 2]) {
    for (const { key } of (await client.store.searchItems(namespace, { limit: 2, offset })).items) keys.add(key);
  }
  assert.deepEqual(keys, new Set(["a", "b", "c"]));
});
