// Runs the tests of the files that are named, in one process.

import { test } from "node:test";

// Tests run one after the other, and the process ends after the last that is known: the first lasts until all are.
let known;
const all = new Promise((resolve) => (known = resolve));
test("every file is read", () => all);
for (const file of process.argv.slice(2)) await import(`./${file}`);
known();
