import { useCallback, useEffect, useState } from "react";
import { useAway } from "./connection";
import { type ChatRun, client, inFlight } from "./server";

const POLL = 2_000;
const RETRY = 1_000;

/**
 * The runs of a thread, oldest first, as the server has them: also those that other pages have started.
 *
 * A browser opens six connections to a server of HTTP/1.1, for all its tabs. So a page holds one: that of the run it
 * shows, or, when none works, that of the thread's life, which tells when one begins.
 */
export function useRuns(threadId: string | null) {
  const [runs, setRuns] = useState<ChatRun[]>([]);
  const [refresh] = useState(() => new Refresh(setRuns));
  const away = useAway();
  const asking = away || runs.some(inFlight);

  useEffect(() => {
    if (threadId === null) return;
    refresh.threadId = threadId;
    void refresh.now();
    if (asking) {
      const timer = setInterval(() => void refresh.now(), POLL);
      return () => clearInterval(timer);
    }
    const leaving = new AbortController();
    void follow(threadId, () => void refresh.now(), leaving.signal);
    return () => leaving.abort();
  }, [threadId, asking, refresh]);

  return { runs, refresh: useCallback((id: string) => ((refresh.threadId = id), refresh.now()), [refresh]) };
}

/** Reads the list of runs: one request at a time, and one more if it was asked for meanwhile. */
class Refresh {
  threadId = "";
  #reading: Promise<void> | undefined;
  #again = false;

  constructor(readonly show: (runs: ChatRun[]) => void) {}

  now(): Promise<void> {
    this.#again = true;
    this.#reading ??= this.#read().finally(() => (this.#reading = undefined));
    return this.#reading;
  }

  async #read() {
    while (this.#again) {
      this.#again = false;
      const found = await client.runs.list(this.threadId, { limit: 100 }).catch(() => undefined);
      if (found && !this.#again) this.show((found as ChatRun[]).reverse());
    }
  }
}

async function follow(threadId: string, changed: () => void, signal: AbortSignal) {
  while (!signal.aborted) {
    try {
      // From the beginning, so that nothing is missed between the list and the stream.
      const life = client.threads.joinStream(threadId, { streamMode: ["lifecycle"], lastEventId: "-", signal });
      for await (const _ of life) changed();
    } catch {
      // The server is away: it is asked again.
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY));
  }
}
