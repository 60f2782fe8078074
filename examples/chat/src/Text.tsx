import { Fragment, type ReactNode } from "react";

// What models write most: blocks of code, code in a line, and what is bold. An end may still be on its way.
const BLOCK = /^```[^\n`]*\n([^]*?)(?:^```[ \t]*$\n?|(?![^]))/gm;
const INLINE = /`([^`\n]+)`|\*\*(\S(?:[^*\n]*\S)?)\*\*/g;

/** What somebody has written. */
export function Text({ children }: { children: string }) {
  return (
    <div className="text">
      {pieces(children, BLOCK, ([, code]) => <pre><code>{code}</code></pre>, (text) =>
        pieces(text, INLINE, ([, code, bold]) => (code ? <code>{code}</code> : <strong>{bold}</strong>), String),
      )}
    </div>
  );
}

/** Show what matches a pattern in one way, and what is between in another. */
function pieces(
  text: string,
  pattern: RegExp,
  matching: (match: RegExpExecArray) => ReactNode,
  between: (text: string) => ReactNode,
): ReactNode[] {
  const found: ReactNode[] = [];
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    found.push(between(text.slice(end, match.index)), matching(match));
    end = match.index + match[0].length;
  }
  found.push(between(text.slice(end)));
  return found.map((piece, n) => <Fragment key={n}>{piece}</Fragment>);
}
