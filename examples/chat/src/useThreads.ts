import type { Thread } from "@langchain/langgraph-sdk";
import { useCallback, useEffect, useState } from "react";
import { assistantId, client } from "./server";

export type Conversation = Pick<Thread, "thread_id" | "status" | "metadata">;

const POLL = 2_000;

/** The threads of the assistant, the last used first. While one of them works, its state is asked for. */
export function useThreads() {
  const [threads, setThreads] = useState<Conversation[]>([]);
  const refresh = useCallback(async () => {
    const found = await client.threads
      .search({
        metadata: { graph_id: assistantId },
        sortBy: "updated_at",
        limit: 50,
        select: ["thread_id", "status", "metadata"],
      })
      .catch(() => undefined);
    if (found) setThreads(found);
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
    if (!threads.some(({ status }) => status === "busy")) return;
    const timer = setTimeout(() => void refresh(), POLL);
    return () => clearTimeout(timer);
  }, [threads, refresh]);
  return { threads, refresh, remove };
}
