import { Client, type Interrupt, type Message, type Run } from "@langchain/langgraph-sdk";

const query = new URLSearchParams(location.search);

/** Where the server is (`?api=`), and which of its assistants answers (`?assistant=`). */
export const apiUrl = query.get("api") ?? "http://localhost:8123";
export const assistantId = query.get("assistant") ?? "bookseller";

export const client = new Client({ apiUrl, apiKey: null });

export type State = { messages: Message[] };

/** A run with what it was sent, which the server tells and the SDK's type omits. */
export type ChatRun = Run & { kwargs: { input: Partial<State> | null } };

/** What becomes of the runs in flight when another message comes. */
export const STRATEGIES = {
  enqueue: { label: "Wait", effect: "It waits for its turn." },
  interrupt: { label: "Interrupt", effect: "The answer stops where it is, and stays." },
  rollback: { label: "Roll back", effect: "The answer is undone, and so is its question." },
  reject: { label: "Reject", effect: "It is refused while the bookseller answers." },
} as const;
export type Strategy = keyof typeof STRATEGIES;

export type Question = Interrupt<{
  action_requests: { name: string; args: Record<string, string | number>; description?: string }[];
}>;
export type Decision =
  | { type: "approve" }
  | { type: "edit"; edited_action: { name: string; args: Record<string, string | number> } }
  | { type: "reject"; message: string };

export const inFlight = (run: Run) => run.status === "pending" || run.status === "running";

/** The message that a run was sent with; none if it answers a question or tries again. */
export const asked = (run: ChatRun): Message | undefined => run.kwargs.input?.messages?.at(-1);

export function textOf({ content }: Message): string {
  if (typeof content === "string") return content;
  return content.map((part) => (part.type === "text" ? part.text : "")).join("");
}

/** The text of an error: that of a stream, or of a checkpoint, which keeps it as Python writes it. */
export function errorText(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error ?? "Something went wrong.");
  return /^\w+\((['"])([^]*)\1\)$/.exec(text)?.[2] ?? text;
}
