import type { Thread } from "@langchain/langgraph-sdk";
import { useCallback, useEffect, useState } from "react";
import { useAway } from "./connection";
import { assistantId, client } from "./server";

export type Conversation = Pick<Thread, "thread_id" | "status" | "metadata" | "interrupts">;

const POLL = 2_000;

/** The threads of the assistant, the last used first. They are asked for again while one works, or the server is away. */
export function useThreads() {
  const [threads, setThreads] = useState<Conversation[]>([]);
  const away = useAway();
  const refresh = useCallback(async () => {
    const found = await client.threads
      .search({
        metadata: { graph_id: assistantId },
        sortBy: "updated_at",
        limit: 50,
        select: ["thread_id", "status", "metadata", "interrupts"],
      })
      .catch(() => undefined);
    // A copy, where none came: so the next time is waited for.
    setThreads((shown) => found ?? [...shown]);
  }, []);
  const remove = useCallback(
    async (threadId: string) => {
      await client.threads.delete(threadId).catch(() => undefined);
      await refresh();
    },
    [refresh],
  );
  useEffect(() => void refresh(), [refresh]);
  useEffect(() => {
    if (!away && !threads.some(({ status }) => status === "busy")) return;
    const timer = setTimeout(() => void refresh(), POLL);
    return () => clearTimeout(timer);
  }, [threads, away, refresh]);
  return { threads, refresh, remove };
}
