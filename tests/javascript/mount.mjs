// Mounts a hook in React, without a browser.

import { Window } from "happy-dom";

// Production React says nothing of what it would say of a test.
process.env.NODE_ENV = "production";

const window = new Window({ url: "http://localhost/" });
for (const [name, value] of Object.entries({ window, document: window.document, navigator: window.navigator })) {
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}

const { createElement } = await import("react");
const { createRoot } = await import("react-dom/client");

/** Mount a hook. `current` is what it returned last, and `seen` what `look` found in it, whenever that was new. */
export function mount(useHook, look = () => undefined) {
  const root = createRoot(document.createElement("div"));
  const mounted = { current: undefined, seen: [], unmount: () => root.unmount() };
  function Probe() {
    mounted.current = useHook();
    const found = look(mounted.current);
    if (found !== undefined && found !== mounted.seen.at(-1)) mounted.seen.push(found);
    return null;
  }
  root.render(createElement(Probe));
  return mounted;
}

/** A storage as `sessionStorage` is, for one test. */
export function storage() {
  const kept = new Map();
  return {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value),
    removeItem: (key) => void kept.delete(key),
    size: () => kept.size,
  };
}
