import { Client, type Interrupt, type Message, type Run } from "@langchain/langgraph-sdk";
import { noting } from "./connection";

const query = new URLSearchParams(location.search);

/** Where the server is (`?api=`), and which of its assistants answers (`?assistant=`). */
export const apiUrl = query.get("api") ?? "http://localhost:8123";
export const assistantId = query.get("assistant") ?? "bookseller";

/** What fails is not repeated behind the page's back: it says so, and asks again itself. */
export const client = new Client({ apiUrl, apiKey: null, callerOptions: { fetch: noting, maxRetries: 0 } });

export type State = { messages: Message[] };

/** A run with what it was sent, which the server tells and the SDK's type omits. */
export type ChatRun = Run & { kwargs: { input: Partial<State> | null } };

/** What becomes of the runs in flight when another message comes. */
export const STRATEGIES = {
  enqueue: { label: "Wait", effect: "A message meanwhile waits." },
  interrupt: { label: "Interrupt", effect: "A message meanwhile stops the answer." },
  rollback: { label: "Roll back", effect: "A message meanwhile undoes the answer." },
  reject: { label: "Reject", effect: "A message meanwhile is refused." },
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

/** Why a request failed, in the words of the server. */
export function refusal(error: unknown): string {
  const { status, text } = error as { status?: number; text?: string };
  if (status === undefined) return "the server cannot be reached. Try again.";
  if (status === 409) return "the bookseller is still answering. Wait, or choose something else than Reject.";
  try {
    return JSON.parse(text ?? "").detail ?? `the server answered with ${status}.`;
  } catch {
    return `the server answered with ${status}.`;
  }
}

/** The text of an error: that of a stream, or of a checkpoint, which keeps it as Python writes it. */
export function errorText(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error ?? "Something went wrong.");
  return /^\w+\((['"])([^]*)\1\)$/.exec(text)?.[2] ?? text;
}
