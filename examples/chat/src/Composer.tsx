import { type FormEvent, type Ref, useState } from "react";
import { STRATEGIES, type Strategy } from "./server";
import type { Chat } from "./useChat";

type Props = { chat: Chat; field: Ref<HTMLTextAreaElement>; onSend: () => void };

export function Composer({ chat, field, onSend }: Props) {
  const [text, setText] = useState("");
  const [strategy, setStrategy] = useState<Strategy>("enqueue");
  const waiting = chat.questions.length > 0;
  const ready = text.trim() !== "" && !waiting;

  async function send(event: FormEvent) {
    event.preventDefault();
    if (!ready) return;
    const message = text.trim();
    // Typed on while the message is on its way: only what was sent goes.
    setText("");
    onSend();
    const taken = await chat.send(message, strategy);
    if (!taken) setText((typed) => [message, typed].filter(Boolean).join("\n"));
  }

  return (
    <form className="composer" onSubmit={(event) => void send(event)}>
      <p className="told" role="alert">
        {chat.refused}
      </p>
      <div className="field">
        <textarea
          ref={field}
          aria-label="Message"
          autoFocus
          rows={1}
          placeholder={waiting ? "Answer above first" : "Write a message"}
          value={text}
          onChange={(event) => {
            setText(event.target.value);
            chat.dismiss();
          }}
          onKeyDown={(event) => {
            if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) void send(event);
          }}
        />
        <button type="button" className="stop" title="Esc" hidden={!chat.active} onClick={() => void chat.stop()}>
          Stop
        </button>
        <button className="primary" disabled={!ready}>
          Send
        </button>
      </div>
      <div className="below">
        <fieldset>
          <legend>If busy</legend>
          {Object.entries(STRATEGIES).map(([value, { label, effect }]) => (
            <label key={value} title={effect}>
              <input
                type="radio"
                name="strategy"
                value={value}
                checked={strategy === value}
                onChange={() => setStrategy(value as Strategy)}
              />
              {label}
            </label>
          ))}
        </fieldset>
        <p className="status" role="status" data-away={chat.away}>
          {chat.away ? "The server is away. Trying again …" : describe(chat, strategy)}
        </p>
      </div>
    </form>
  );
}

const describe = ({ active }: Chat, strategy: Strategy) =>
  [active && "Answering.", STRATEGIES[strategy].effect].filter(Boolean).join(" ");
