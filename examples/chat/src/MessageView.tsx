import type { AIMessage, Message } from "@langchain/langgraph-sdk";
import { type FormEvent, useState } from "react";
import { textOf } from "./server";
import { Text } from "./Text";
import type { Entry } from "./transcript";
import type { Chat } from "./useChat";

type Props = { entry: Entry; chat: Chat; editing: boolean; onEditing: (on: boolean) => void };

const NOTES = { interrupted: "Interrupted", "never begun": "Interrupted before it was answered" };

export function MessageView({ entry, chat, editing, onEditing }: Props) {
  const { message, note } = entry;
  const kind = message?.type ?? "note";
  // Shown with the call that it answers.
  if (message?.type === "tool") return null;
  return (
    <article className={`message ${kind}`} data-note={note} data-sending={entry.sending}>
      {message && <h3 className="hidden">{kind === "human" ? "You" : "The bookseller"}</h3>}
      {editing && message ? (
        <Editor message={message} chat={chat} onDone={() => onEditing(false)} />
      ) : (
        message && textOf(message) && <Text>{textOf(message)}</Text>
      )}
      {message?.type === "ai" && <ToolCalls message={message} results={chat.results} />}
      <footer>
        {note && <span className="note">{NOTES[note]}</span>}
        {message?.type === "human" && !note && !editing && (
          <Tools message={message} chat={chat} onEdit={() => onEditing(true)} />
        )}
      </footer>
    </article>
  );
}

/** The other versions of a message, and the way to make one. */
function Tools({ message, chat, onEdit }: { message: Message; chat: Chat; onEdit: () => void }) {
  const metadata = chat.metadataOf(message);
  const options = metadata?.branchOptions ?? [];
  const at = metadata?.branch === undefined ? -1 : options.indexOf(metadata.branch);
  const turn = (by: number) => () => chat.setBranch(options[at + by]!);
  return (
    <>
      {at >= 0 && (
        <span className="branches" role="group" aria-label="Versions of this message">
          <button aria-label="Previous version" disabled={at === 0 || chat.busy} onClick={turn(-1)}>
            ‹
          </button>
          <span>
            {at + 1}/{options.length}
          </span>
          <button aria-label="Next version" disabled={at === options.length - 1 || chat.busy} onClick={turn(1)}>
            ›
          </button>
        </span>
      )}
      <button className="edit" disabled={chat.busy || !metadata?.firstSeenState} onClick={onEdit}>
        Edit
      </button>
    </>
  );
}

function Editor({ message, chat, onDone }: { message: Message; chat: Chat; onDone: () => void }) {
  const [text, setText] = useState(textOf(message));
  async function save(event: FormEvent) {
    event.preventDefault();
    if (!text.trim()) return;
    if (await chat.edit(message, text.trim())) onDone();
  }
  return (
    <form className="editor" onSubmit={(event) => void save(event)}>
      <textarea
        aria-label="Edit the message"
        autoFocus
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") {
            event.preventDefault();
            onDone();
          }
          if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) void save(event);
        }}
      />
      <div>
        <button type="button" onClick={onDone}>
          Cancel
        </button>
        <button className="primary" disabled={chat.busy}>
          Send as new version
        </button>
      </div>
    </form>
  );
}

function ToolCalls({ message, results }: { message: AIMessage; results: Map<string, Message> }) {
  return message.tool_calls?.map(({ id, name, args }) => {
    const result = results.get(id ?? "");
    return (
      <details className="call" key={id}>
        <summary>
          <code>
            {name}({Object.values(args as object).map(String).join(", ")})
          </code>
        </summary>
        <Text>{result ? textOf(result) : "No result yet."}</Text>
      </details>
    );
  });
}
