// A proxy that cuts connections in the middle of what they carry.

import { connect, createServer } from "node:net";

const HEAD_END = Buffer.from("\r\n\r\n");

/**
 * Listen in front of a server. The answers to the first `cuts` streams end after a random number of bytes of their body,
 * between 0 and `most`, as a network that goes away would end them.
 */
export async function cuttingProxy(target, { cuts, most }) {
  const { hostname, port } = new URL(target);
  const made = [];
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    const drop = () => {
      client.destroy();
      upstream.destroy();
    };
    let head = Buffer.alloc(0);
    let left;
    client.on("data", (data) => upstream.write(data));
    upstream.on("data", (data) => {
      if (left === Infinity) return client.write(data);
      if (left === undefined) {
        head = Buffer.concat([head, data]);
        const end = head.indexOf(HEAD_END);
        if (end < 0) return;
        const streams = head.subarray(0, end).includes("text/event-stream");
        left = streams && made.length < cuts ? Math.floor(Math.random() * most) : Infinity;
        if (left !== Infinity) made.push(left);
        client.write(head.subarray(0, end + HEAD_END.length));
        data = head.subarray(end + HEAD_END.length);
      }
      client.write(data.subarray(0, left));
      left -= data.length;
      // The bytes above are flushed before the connection ends; what is missing is the end of the chunked body.
      if (left <= 0) client.end(() => drop());
    });
    for (const socket of [client, upstream]) socket.on("error", drop).on("close", drop);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, made, close: () => server.close() };
}
