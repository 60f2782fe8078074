import { asked, type ChatRun, textOf } from "./server";

/** The messages that wait for their turn. */
export function Queue({ runs, onCancel }: { runs: ChatRun[]; onCancel: (run: ChatRun) => void }) {
  if (runs.length === 0) return null;
  return (
    <section className="queue" aria-label="Waiting messages">
      <h2>Waiting</h2>
      <ol>
        {runs.map((run) => {
          const message = asked(run);
          const text = message ? textOf(message) : "An answer";
          return (
            <li key={run.run_id}>
              <span>{text}</span>
              <button aria-label={`Cancel “${text}”`} onClick={() => onCancel(run)}>
                Cancel
              </button>
            </li>
          );
        })}
      </ol>
    </section>
  );
}
