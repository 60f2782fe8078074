import { v7 as uuid } from "@langchain/core/utils/uuid";
import { type Checkpoint, type Message, StreamError, type ThreadState } from "@langchain/langgraph-sdk";
import { useStream } from "@langchain/langgraph-sdk/react";
import { useEffect, useLayoutEffect, useRef, useState } from "react";
import { currentBranch, messageIds, nodesOf } from "./branches";
import { useAway } from "./connection";
import { cutAnswers } from "./cut";
import {
  assistantId,
  type ChatRun,
  client,
  type Decision,
  inFlight,
  type Question,
  refusal,
  type State,
  type Strategy,
  textOf,
} from "./server";
import { transcript } from "./transcript";
import { useRuns } from "./useRuns";

const HISTORY = 200;
const THROTTLE = 40;
const FAILED: Partial<Record<ChatRun["status"], string>> = {
  error: "Something went wrong.",
  timeout: "It took too long.",
};

type Sent = Parameters<typeof client.runs.create>[2];

/**
 * One conversation with the assistant.
 *
 * The hook of the SDK shows a thread: its state, the tokens of a run that it has joined, its branches and interrupts. Runs
 * are sent beside it, because the queue is the server's: the hook would hold a second message back until the first is
 * answered, and the server could neither queue nor refuse it.
 */
export function useChat(threadId: string | null, onThread: (threadId: string) => void) {
  const { runs, refresh } = useRuns(threadId);
  const away = useAway();
  const [sending, setSending] = useState(false);
  // Why the last thing that was sent was not taken.
  const [refused, setRefused] = useState<string>();
  // A read or a stream has failed, so what is shown may lack something.
  const [broken, setBroken] = useState(false);
  // The branch that the reader has turned to; none: that of the thread.
  const [chosen, setChosen] = useState<string>();
  const shown = useRef<Message[]>([]);
  const stream = useStream<State, { InterruptType: Question["value"] }>({
    client,
    assistantId,
    threadId,
    fetchStateHistory: { limit: HISTORY },
    throttle: THROTTLE,
    onFinish: (state, run) => {
      if (run) keepCut(run.run_id, state, shown.current);
      setChosen(undefined);
    },
    onError: (error) => setBroken(!(error instanceof StreamError) && !("status" in (error as object))),
  });
  if (stream.isLoading) shown.current = stream.messages;

  const nodes = nodesOf(stream.experimental_branchTree);
  const branch = chosen ?? currentBranch(nodes);
  useLayoutEffect(() => stream.setBranch(branch), [branch]);

  const active = runs.find(inFlight);
  const last = runs.at(-1);
  // Once the server is back: a run that has ended is joined, too, since its end makes the hook read the thread.
  const missed = broken && !away;
  useJoined(active ?? (missed ? last : undefined), stream, {
    again: missed,
    begun: () => setBroken(false),
    ended: () => threadId && refresh(threadId),
  });

  /** Send a run, and tell whether it was taken. */
  async function create(sent: Sent, title = ""): Promise<boolean> {
    setSending(true);
    try {
      const id = threadId ?? (await client.threads.create({ graphId: assistantId, metadata: { title } })).thread_id;
      await client.runs.create(id, assistantId, {
        streamMode: ["values", "messages-tuple"],
        streamResumable: true,
        ...sent,
      });
      await refresh(id);
      onThread(id);
      setRefused(undefined);
      return true;
    } catch (error) {
      setRefused(`Not sent: ${refusal(error)}`);
      return false;
    } finally {
      setSending(false);
    }
  }

  function send(text: string, strategy: Strategy) {
    // On a branch that the thread is not on, the conversation goes on from what is shown.
    const checkpoint = !active && chosen !== undefined ? stream.history.at(-1)?.checkpoint : undefined;
    return create({ input: said(text), multitaskStrategy: strategy, checkpoint: unbound(checkpoint) }, text);
  }

  function edit(message: Message, text: string) {
    const before = stream.getMessagesMetadata(message)?.firstSeenState?.parent_checkpoint;
    const metadata = { replaces: message.id };
    return create({ input: said(text), multitaskStrategy: "reject", checkpoint: unbound(before), metadata });
  }

  const cancel = async (run: ChatRun, action: "interrupt" | "rollback") => {
    // It may have ended since.
    await client.runs.cancel(run.thread_id, run.run_id, false, action).catch(() => undefined);
    await refresh(run.thread_id);
  };

  return {
    entries: transcript({ messages: stream.messages, runs, active, known: messageIds(nodes), cut: cutAnswers.get }),
    results: new Map(stream.messages.flatMap((message) => (message.type === "tool" ? [[message.tool_call_id, message]] : []))),
    metadataOf: stream.getMessagesMetadata,
    setBranch: setChosen,
    loading: stream.isThreadLoading,
    active,
    queue: runs.filter(inFlight).slice(1),
    busy: active !== undefined || sending,
    away,
    refused,
    dismiss: () => setRefused(undefined),
    questions: active ? [] : (stream.interrupts as Question[]).filter((each) => each.value?.action_requests),
    failure: last && FAILED[last.status] && (stream.error ?? FAILED[last.status]),
    last,
    send,
    edit,
    retry: () => create({ input: null }),
    answer: (question: Question, decision: Decision) =>
      create({ command: { resume: { [question.id!]: { decisions: [decision] } } } }),
    stop: () => (active ? cancel(active, "interrupt") : undefined),
    withdraw: (run: ChatRun) => cancel(run, "rollback"),
  };
}

export type Chat = ReturnType<typeof useChat>;

const said = (content: string): State => ({ messages: [{ type: "human", id: uuid(), content }] });

/** A checkpoint as a run takes it: the thread is in the path. */
function unbound(checkpoint: Checkpoint | null | undefined) {
  if (!checkpoint) return undefined;
  const { thread_id: _, ...rest } = checkpoint;
  return rest;
}

function keepCut(runId: string, state: ThreadState<State>, shown: Message[]) {
  const held = new Set(state.values.messages?.map((message) => message.id));
  const cut = shown.findLast((message) => message.type === "ai" && !held.has(message.id) && textOf(message));
  if (cut) cutAnswers.keep(runId, cut);
}

type Joinable = Pick<ReturnType<typeof useStream>, "joinStream" | "switchThread">;

type Watch = { again: boolean; begun: () => void; ended: () => void };

/**
 * Show a run from its first event: after a reload as if the page had been there all the time. `again` is said when it
 * was shown before, but not to its end.
 */
function useJoined(run: ChatRun | undefined, stream: Joinable, watch: Watch) {
  const latest = useRef({ stream, watch });
  latest.current = { stream, watch };
  const joined = useRef<string>(undefined);
  const id = run?.run_id;
  useEffect(() => {
    if (id === undefined || (joined.current === id && !watch.again)) return;
    joined.current = id;
    latest.current.watch.begun();
    void latest.current.stream.joinStream(id).finally(() => latest.current.watch.ended());
  }, [id, watch.again]);
  useEffect(
    () => () => {
      joined.current = undefined;
      latest.current.stream.switchThread(null);
    },
    [],
  );
}
