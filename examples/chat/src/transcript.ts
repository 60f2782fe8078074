import type { Message } from "@langchain/langgraph-sdk";
import { type ChatRun, asked } from "./server";

/** One entry of the page: a message of the state, or what a run left that was stopped. */
export type Entry = {
  key: string;
  message?: Message;
  /** Why there is no more of it. */
  note?: "interrupted" | "never begun";
  /** Sent, and not yet in the state. */
  sending?: boolean;
};

export type Sources = {
  messages: Message[];
  /** Oldest first. */
  runs: ChatRun[];
  /** The run that works, or is about to. */
  active: ChatRun | undefined;
  /** Ids of all messages in any checkpoint, on every branch. */
  known: Set<string | undefined>;
  /** What was shown of an answer that the state does not hold. */
  cut: (runId: string) => Message | undefined;
};

/** Put together what the page shows: the state, the answers that were stopped, and the message that is on its way. */
export function transcript({ messages, runs, active, known, cut }: Sources): Entry[] {
  const entries: Entry[] = messages.map((message, n) => ({ key: message.id ?? String(n), message }));
  // The question that a run is about, if this branch has it, and the last such of all.
  let question: string | undefined;
  let last: string | undefined;
  for (const run of runs) {
    const message = asked(run);
    if (message) question = entries.find(({ key }) => key === message.id)?.key;
    last = question ?? last;
    if (run.status !== "interrupted") continue;
    if (question !== undefined) {
      entries.splice(endOfAnswer(entries, question), 0, stopped(run, entries, cut(run.run_id)));
    } else if (message?.id && !known.has(message.id)) {
      entries.splice(endOfAnswer(entries, last), 0, { key: message.id, message, note: "never begun" });
      last = message.id;
    }
  }
  return withSent(entries, active);
}

function stopped(run: ChatRun, entries: Entry[], answer: Message | undefined): Entry {
  const lost = answer && !entries.some(({ key }) => key === answer.id);
  return { key: run.run_id, message: lost ? answer : undefined, note: "interrupted" };
}

/** Find where the answer to a question ends: before the next one. */
function endOfAnswer(entries: Entry[], question: string | undefined): number {
  const start = entries.findIndex(({ key }) => key === question);
  const next = entries.findIndex(({ message }, n) => n > start && message?.type === "human");
  return next < 0 ? entries.length : next;
}

function withSent(entries: Entry[], active: ChatRun | undefined): Entry[] {
  const message = active && asked(active);
  if (!message?.id || entries.some(({ key }) => key === message.id)) return entries;
  const replaced = entries.findIndex(({ key }) => key === active?.metadata?.replaces);
  const before = replaced < 0 ? entries : entries.slice(0, replaced);
  return [...before, { key: message.id, message, sending: true }];
}
