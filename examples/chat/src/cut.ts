import type { Message } from "@langchain/langgraph-sdk";

const PREFIX = "durathread-chat:cut:";

/**
 * What was shown of an answer that was stopped, by run.
 *
 * A model that is stopped in the middle of a message has not returned it, so no checkpoint holds it. The page that
 * showed it keeps it, for this browser.
 */
export const cutAnswers = {
  get(runId: string): Message | undefined {
    const kept = localStorage.getItem(PREFIX + runId);
    return kept === null ? undefined : (JSON.parse(kept) as Message);
  },
  keep(runId: string, message: Message) {
    localStorage.setItem(PREFIX + runId, JSON.stringify(message));
  },
};
