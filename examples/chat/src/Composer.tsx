import { type FormEvent, useState } from "react";
import { STRATEGIES, type Strategy } from "./server";
import type { Chat, Outcome } from "./useChat";

const TOLD: Record<Exclude<Outcome, "sent">, string> = {
  refused: "Not sent: the bookseller is still answering. Wait, or choose something else than Reject.",
  failed: "Not sent: the server did not take it. Your message is still here.",
};

export function Composer({ chat }: { chat: Chat }) {
  const [text, setText] = useState("");
  const [strategy, setStrategy] = useState<Strategy>("enqueue");
  const [told, setTold] = useState<string>();
  const waiting = chat.questions.length > 0;
  const ready = text.trim() !== "" && !waiting;

  async function send(event: FormEvent) {
    event.preventDefault();
    if (!ready) return;
    const message = text.trim();
    // Typed on while the message is on its way: only what was sent goes.
    setText("");
    const outcome = await chat.send(message, strategy);
    setTold(outcome === "sent" ? undefined : TOLD[outcome]);
    if (outcome !== "sent") setText((typed) => [message, typed].filter(Boolean).join("\n"));
  }

  return (
    <form className="composer" onSubmit={(event) => void send(event)}>
      <p className="told" role="alert">
        {told}
      </p>
      <div className="field">
        <textarea
          aria-label="Message"
          autoFocus
          rows={1}
          placeholder={waiting ? "Answer above first" : "Write a message"}
          value={text}
          onChange={(event) => setText(event.target.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) void send(event);
          }}
        />
        <button type="button" className="stop" hidden={!chat.active} onClick={() => void chat.stop()}>
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
        <p className="status" role="status">
          {chat.active ? "Answering. Esc stops it." : STRATEGIES[strategy].effect}
        </p>
      </div>
    </form>
  );
}
