import { useSyncExternalStore } from "react";

let away = false;
const listeners = new Set<() => void>();

function found(now: boolean) {
  if (now === away) return;
  away = now;
  for (const listener of listeners) listener();
}

/** `fetch`, which notes whether there is a server. */
export const noting: typeof fetch = async (target, init) => {
  try {
    const response = await fetch(target, init);
    found(false);
    return response;
  } catch (error) {
    if (!init?.signal?.aborted) found(true);
    throw error;
  }
};

function subscribe(listener: () => void) {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/** Whether the server is away: what the last request to it found. */
export const useAway = () => useSyncExternalStore(subscribe, () => away);
