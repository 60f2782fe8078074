import { useEffect, useRef, useState } from "react";
import { Approval } from "./Approval";
import { Composer } from "./Composer";
import { MessageView } from "./MessageView";
import { Queue } from "./Queue";
import { errorText } from "./server";
import { type Chat, useChat } from "./useChat";

type Props = { threadId: string | null; onThread: (threadId: string) => void; onChange: () => void };

const NEAR = 80;

export function Conversation({ threadId, onThread, onChange }: Props) {
  const chat = useChat(threadId, onThread);
  const [editing, setEditing] = useState<string>();
  const { scroller, far, toEnd } = useFollowed();
  const field = useRef<HTMLTextAreaElement>(null);
  // What had the focus is about to go.
  const write = () => field.current?.focus();
  const { stop } = chat;

  useEffect(() => void onChange(), [onChange, chat.last?.run_id, chat.last?.status]);
  useEffect(() => {
    if (!chat.active) return;
    const escape = (event: KeyboardEvent) => event.key === "Escape" && !event.defaultPrevented && void stop();
    window.addEventListener("keydown", escape);
    return () => window.removeEventListener("keydown", escape);
  });

  return (
    <main className="conversation">
      <div className="scroller" ref={scroller}>
        <div className="transcript" role="log" aria-label="Conversation" aria-busy={chat.busy}>
          {chat.entries.length === 0 && !chat.loading && !chat.busy && !(threadId && chat.away) && <Welcome />}
          {chat.entries.map((entry) => (
            <MessageView
              key={entry.key}
              entry={entry}
              chat={chat}
              editing={editing === entry.key}
              onEditing={(on) => {
                setEditing(on ? entry.key : undefined);
                if (!on) write();
              }}
            />
          ))}
          {thinking(chat) && <p className="thinking">The bookseller is thinking</p>}
          {chat.questions.map((question) => (
            <Approval
              key={question.id}
              question={question}
              busy={chat.busy}
              onDecision={async (...decided) => (await chat.answer(...decided)) && write()}
            />
          ))}
          {chat.failure !== undefined && !chat.busy && (
            <div className="failure" role="alert">
              <p>{errorText(chat.failure)}</p>
              <button onClick={() => void chat.retry().then((taken) => taken && write())}>Try again</button>
            </div>
          )}
        </div>
        <button className="end" hidden={!far} onClick={toEnd} aria-label="Go to the end">
          ↓
        </button>
      </div>
      <Queue runs={chat.queue} onCancel={chat.withdraw} />
      <Composer chat={chat} field={field} onSend={toEnd} />
    </main>
  );
}

function Welcome() {
  return (
    <div className="welcome">
      <h2>Good day!</h2>
      <p>
        Ask for <q>a story</q>, for books about <q>whales</q>, or say <q>order 2 copies of Moby-Dick</q>. Write again while
        the bookseller answers, and see what becomes of it.
      </p>
    </div>
  );
}

/** Whether a run works and has not written anything yet. */
function thinking({ active, entries }: Chat): boolean {
  return active !== undefined && entries.at(-1)?.message?.type !== "ai";
}

/** Keep the end in sight while it grows, unless the reader has gone elsewhere. */
function useFollowed() {
  const scroller = useRef<HTMLDivElement>(null);
  const near = useRef(true);
  const [far, setFar] = useState(false);
  useEffect(() => {
    const element = scroller.current!;
    const moved = () => {
      near.current = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR;
      setFar(!near.current);
    };
    const follow = () => near.current && element.scrollTo({ top: element.scrollHeight });
    const resized = new ResizeObserver(follow);
    element.addEventListener("scroll", moved, { passive: true });
    resized.observe(element);
    resized.observe(element.firstElementChild!);
    return () => {
      element.removeEventListener("scroll", moved);
      resized.disconnect();
    };
  }, []);
  const toEnd = () => {
    near.current = true;
    scroller.current!.scrollTo({ top: scroller.current!.scrollHeight });
  };
  return { scroller, far, toEnd };
}
