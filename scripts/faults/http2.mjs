// Requests a URL twice with node:http2, and prints what it sees: node http2.mjs URL LIMIT_MS PAUSE_MS
import http2 from "node:http2";

const [url, limit, pause] = process.argv.slice(2);
const { origin, pathname } = new URL(url);
let session;

// Returns a session that is open; another one if the last has ended.
function open() {
  if (!session || session.closed || session.destroyed) {
    session = http2.connect(origin);
    // The request reports the error as well.
    session.on("error", () => {});
  }
  return session;
}

function request() {
  return new Promise((resolve) => {
    const stream = open().request({ ":path": pathname });
    let status;
    let length = 0;
    setTimeout(() => resolve("`timeout`"), Number(limit));
    stream.on("response", (headers) => (status = headers[":status"]));
    stream.on("data", (data) => (length += data.length));
    stream.on("end", () => status && resolve(`${status}, ${length} bytes`));
    stream.on("close", () => resolve(`\`closed with code ${stream.rstCode}\``));
    session.on("error", (error) => resolve(`\`${error.code}\``));
    stream.on("error", (error) => resolve(`\`${error.code}\``));
  });
}

for (let number = 0; number < 2; number++) {
  console.log(await request().catch((error) => `\`${error.code}\``));
  await new Promise((resolve) => setTimeout(resolve, Number(pause)));
}
process.exit(0);
