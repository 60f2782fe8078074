// One line of JSON for each test that ended: what pytest reads.

export default async function* reporter(events) {
  for await (const { type, data } of events) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    const error = data.details?.error;
    const cause = error?.cause ?? error;
    yield `${JSON.stringify({ name: data.name, failure: type === "test:fail" ? String(cause?.stack ?? cause) : null })}\n`;
  }
}
