import { mount, storage } from "./mount.mjs";
import { useStream } from "@langchain/langgraph-sdk/react";
import { client, eventually, newThread, url, counting, held } from "./support.mjs";
const said = (text) => ({ messages: [{ type: "human", content: text }] });
const settle = (p) => eventually(() => p.current?.isLoading === false);
const loaded = (p) => eventually(() => p.current && !p.current.isThreadLoading);
const use = (assistantId, o = {}, look) => mount(() => useStream({ apiUrl: url, apiKey: null, assistantId, ...o }), look ?? ((s) => void s.values));
async function probe(name, f) { try { console.log("##", name, JSON.stringify(await f(), null, 0)?.slice(0, 900)); } catch (e) { console.log("## FAIL", name, e.stack?.slice(0, 500)); } }
await probe("stop: interrupts/error afterwards", async () => {
  const out = [];
  for (const fetchStateHistory of [false, true]) {
    const t = await newThread(); const stops = [];
    const p = use("chat", { threadId: t, fetchStateHistory, onStop: (a) => stops.push(Object.keys(a)) }, (s) => s.messages.length + " " + s.interrupts.length);
    await loaded(p); const sub = p.current.submit(said("slowly " + "word ".repeat(60)));
    await eventually(() => p.current.messages.length === 2);
    await p.current.stop(); await sub; await eventually(async () => (await client.runs.list(t))[0].status === "interrupted");
    await new Promise((r) => setTimeout(r, 600));
    const st = await client.threads.getState(t);
    out.push({ interrupts: p.current.interrupts, error: String(p.current.error), msgs: p.current.messages.length, stops, next: st.next, tasks: st.tasks.map((x) => [x.error, x.interrupts]) });
    p.unmount();
    const later = use("chat", { threadId: t, fetchStateHistory }, (s) => s.messages.length); await loaded(later); await new Promise((r) => setTimeout(r, 200));
    out.push({ later: later.current.interrupts, error: String(later.current.error) }); later.unmount();
  }
  return out;
});
await probe("events", async () => {
  const seen = {}; const note = (n) => (d, m) => ((seen[n] ??= []).push([Object.keys(d ?? {}).slice(0, 9), m?.namespace]));
  const p = use("toolbox", { onUpdateEvent: note("update"), onCustomEvent: note("custom"), onDebugEvent: note("debug"), onCheckpointEvent: note("checkpoint"), onTaskEvent: note("task"), onMetadataEvent: (d) => (seen.metadata = d), onToolEvent: (d, m) => ((seen.tool ??= []).push(d)), onError: (e) => (seen.error = String(e)) }, (s) => s.messages.length);
  await loaded(p); await p.current.submit(said("weather Paris")); await settle(p);
  const r = { error: String(p.current.error), toolProgress: p.current.toolProgress, toolCalls: p.current.toolCalls.map((c) => [c.call?.name, c.state, c.result?.content]) };
  for (const k in seen) if (Array.isArray(seen[k])) seen[k] = k === "tool" ? seen[k] : [seen[k].length, seen[k][0]];
  p.unmount(); return { ...r, ...seen };
});
await probe("LangChain events", async () => {
  const seen = []; const p = use("chat", { onLangChainEvent: (d) => seen.push(d.event) }, (s) => s.messages.length);
  await loaded(p); await p.current.submit(said("hello")); await settle(p); const r = [...new Set(seen)]; const e = String(p.current.error); const m = p.current.messages.length; p.unmount(); return [r, e, m];
});
await probe("optimistic", async () => {
  const t = await newThread(); const seen = [];
  const p = use("chat", { threadId: t }, (s) => s.messages.map((m) => m.content).join("|")); await loaded(p);
  await p.current.submit(said("hi"), { optimisticValues: (prev) => ({ ...prev, messages: [...(prev.messages ?? []), { type: "human", content: "hi", id: "opt" }] }) }); await settle(p);
  const r = p.seen; p.unmount(); return r;
});
await probe("several interrupts by id", async () => {
  const t = await newThread(); const p = use("both", { threadId: t, fetchStateHistory: true }); await loaded(p); await p.current.submit({ log: [] }); await settle(p);
  const ids = p.current.interrupts.map((i) => i.id); const kind = Array.isArray(p.current.interrupt);
  await p.current.submit(null, { command: { resume: Object.fromEntries(p.current.interrupts.map(({ id, value }) => [id, value === "left?" ? "L" : "R"])) } }); await settle(p);
  const r = { n: ids.length, kind, log: p.current.values.log, left: p.current.interrupts, err: String(p.current.error) }; p.unmount(); return r;
});
await probe("one of two answered, then other", async () => {
  const t = await newThread(); const p = use("both", { threadId: t, fetchStateHistory: true }); await loaded(p); await p.current.submit({ log: [] }); await settle(p);
  const one = p.current.interrupts[0];
  await p.current.submit(null, { command: { resume: { [one.id]: "first" } } }); await settle(p);
  const between = p.current.interrupts.map((i) => i.value), blog = p.current.values.log;
  if (p.current.interrupts[0]) { await p.current.submit(null, { command: { resume: { [p.current.interrupts[0].id]: "second" } } }); await settle(p); }
  const r = { between, blog, log: p.current.values.log, left: p.current.interrupts }; p.unmount(); return r;
});
await probe("twice", async () => {
  const t = await newThread(); const p = use("twice", { threadId: t }); await loaded(p); await p.current.submit({ log: [] }); await settle(p);
  const a = p.current.interrupt?.value; await p.current.submit(null, { command: { resume: "1" } }); await settle(p); const b = p.current.interrupt?.value, bs = p.current.interrupts.length;
  await p.current.submit(null, { command: { resume: "2" } }); await settle(p); const r = { a, b, bs, log: p.current.values.log, c: p.current.interrupts }; p.unmount(); return r;
});
await probe("nested interrupt", async () => {
  const t = await newThread(); const p = use("nested_hitl", { threadId: t, fetchStateHistory: true }); await loaded(p); await p.current.submit({ log: [] }, { streamSubgraphs: true }); await settle(p);
  const a = p.current.interrupts; p.unmount(); const q = use("nested_hitl", { threadId: t }); await loaded(q); await eventually(() => q.current.interrupts.length); const b = q.current.interrupts;
  await q.current.submit(null, { command: { resume: "yes" } }); await settle(q); const r = { a, b, log: q.current.values.log, left: q.current.interrupts }; q.unmount(); return r;
});
await probe("breakpoint", async () => {
  const t = await newThread(); const p = use("agent", { threadId: t }); await loaded(p); await p.current.submit({ log: ["x"] }, { interruptBefore: ["b"] }); await settle(p);
  const a = p.current.interrupt, l = p.current.values.log; await p.current.submit(null); await settle(p); const r = { a, l, log: p.current.values.log, b: p.current.interrupt }; p.unmount(); return r;
});
await probe("strictResume of unknown", async () => {
  const t = await newThread(); const p = use("hitl", { threadId: t }); await loaded(p); await p.current.submit({ log: [] }); await settle(p);
  await p.current.submit(null, { command: { resume: { [ "0".repeat(32)]: "x" } }, strictResume: true }); await settle(p); const r = { err: String(p.current.error), int: p.current.interrupts }; p.unmount(); return r;
});
await probe("threadId change in mid-run", async () => {
  const a = await newThread(), b = await newThread(); await client.runs.wait(b, "chat", { input: said("bee") });
  let set; const { useState } = await import("react");
  const p = mount(() => { const [id, s] = useState(a); set = s; return useStream({ apiUrl: url, apiKey: null, assistantId: "chat", threadId: id, reconnectOnMount: false }); }, (s) => s.messages.map((m) => m.content.length).join(","));
  await loaded(p); p.current.submit(said("slowly " + "word ".repeat(60))).catch(() => 0); await eventually(() => p.current.messages.length === 2);
  set(b); await eventually(() => p.current.messages.length === 2 && p.current.messages[0].content === "bee");
  await new Promise((r) => setTimeout(r, 1500)); const r = { msgs: p.current.messages.map((m) => m.content), loading: p.current.isLoading, err: String(p.current.error), a: (await client.runs.list(a)).map((x) => x.status) };
  p.unmount(); return r;
});
await probe("unmount in mid-run", async () => {
  const out = [];
  for (const o of [{}, { reconnectOnMount: storage }]) { const t = await newThread(); const p = use("chat", { threadId: t, ...o }, (s) => s.messages.length); await loaded(p); p.current.submit(said("slowly " + "word ".repeat(40))).catch(() => 0); await eventually(() => p.current.messages.length === 2); p.unmount(); await new Promise((r) => setTimeout(r, 3500)); out.push((await client.runs.list(t)).map((x) => x.status)); }
  return out;
});
process.exit();
