import { type FormEvent, useState } from "react";
import type { Decision, Question } from "./server";

type Props = { question: Question; busy: boolean; onDecision: (question: Question, decision: Decision) => unknown };

/** A tool's call that a person approves, changes or declines. */
export function Approval({ question, busy, onDecision }: Props) {
  const { name, args, description } = question.value!.action_requests[0]!;
  const [edited, setEdited] = useState(args);
  const [reason, setReason] = useState("");
  const changed = Object.keys(args).some((key) => edited[key] !== args[key]);

  function approve(event: FormEvent) {
    event.preventDefault();
    onDecision(question, changed ? { type: "edit", edited_action: { name, args: edited } } : { type: "approve" });
  }

  return (
    <form className="approval" onSubmit={approve} aria-label={`Approve ${name}`}>
      <h3>{description ?? "May this be done?"}</h3>
      <div className="arguments">
        {Object.entries(args).map(([key, value]) => (
          <label key={key}>
            <span>{key}</span>
            <input
              required
              name={key}
              type={typeof value === "number" ? "number" : "text"}
              value={edited[key]}
              onChange={({ target }) =>
                setEdited({ ...edited, [key]: typeof value === "number" ? target.valueAsNumber || 0 : target.value })
              }
            />
          </label>
        ))}
      </div>
      <label className="reason">
        <span>If you decline, why</span>
        <input name="reason" value={reason} onChange={({ target }) => setReason(target.value)} />
      </label>
      <div className="decisions">
        <button
          type="button"
          disabled={busy}
          onClick={() => onDecision(question, { type: "reject", message: reason || "No." })}
        >
          Decline
        </button>
        <button className="primary" disabled={busy}>
          {changed ? "Approve with changes" : "Approve"}
        </button>
      </div>
    </form>
  );
}
