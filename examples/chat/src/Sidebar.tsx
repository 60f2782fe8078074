import { type KeyboardEvent, useRef } from "react";
import type { Conversation } from "./useThreads";

type Props = {
  threads: Conversation[];
  current: string | null;
  open: boolean;
  onOpen: (open: boolean) => void;
  onChoose: (threadId: string | null) => void;
  onRemove: (threadId: string) => void;
};

const STATES = { busy: "answering", error: "failed", interrupted: "stopped", idle: "" };

/** What a thread does, or waits for. */
function stateOf({ status, interrupts }: Conversation): string {
  return Object.values(interrupts ?? {}).some((asked) => asked.length > 0) ? "asks you" : STATES[status];
}

const titleOf = ({ metadata }: Conversation) => String(metadata?.title ?? "A conversation");

function Books() {
  return (
    <svg viewBox="0 0 24 24" width="24" height="24" aria-hidden="true" fill="none" stroke="currentColor" strokeWidth="1.8">
      <path d="M4 4h4v16H4zM8 4h4v16H8zM13.5 5l3.9-1 4 15-3.9 1z" strokeLinejoin="round" />
    </svg>
  );
}

export function Sidebar({ threads, current, open, onOpen, onChoose, onRemove }: Props) {
  const menu = useRef<HTMLButtonElement>(null);
  function escape(event: KeyboardEvent) {
    if (!open || event.key !== "Escape") return;
    event.preventDefault();
    onOpen(false);
    menu.current?.focus();
  }
  return (
    <header className="sidebar" data-open={open} onKeyDown={escape}>
      <div className="brand">
        <Books />
        <h1>The bookseller</h1>
        <button ref={menu} className="menu" aria-expanded={open} aria-controls="threads" onClick={() => onOpen(!open)}>
          Conversations
        </button>
      </div>
      <nav id="threads" aria-label="Conversations">
        <button className="new" onClick={() => onChoose(null)}>
          New conversation
        </button>
        <ul>
          {threads.map((thread) => (
            <li key={thread.thread_id}>
              <button
                className="thread"
                aria-current={thread.thread_id === current ? "page" : undefined}
                onClick={() => onChoose(thread.thread_id)}
              >
                <span>{titleOf(thread)}</span>
                {stateOf(thread) && <small data-status={thread.status}>{stateOf(thread)}</small>}
              </button>
              <button
                className="remove"
                aria-label={`Delete “${titleOf(thread)}”`}
                onClick={() => confirm(`Delete “${titleOf(thread)}”?`) && onRemove(thread.thread_id)}
              >
                ×
              </button>
            </li>
          ))}
        </ul>
      </nav>
    </header>
  );
}
