// Requests a URL twice with fetch, and prints what it sees: node fetch.mjs URL LIMIT_MS PAUSE_MS
const [url, limit, pause] = process.argv.slice(2);

for (let number = 0; number < 2; number++) {
  try {
    const response = await fetch(url, { redirect: "manual", signal: AbortSignal.timeout(Number(limit)) });
    const body = await response.arrayBuffer();
    console.log(`${response.status}, ${body.byteLength} bytes`);
  } catch (error) {
    console.log(`\`${error.cause?.code ?? error.cause?.name ?? error.name}\``);
  }
  await new Promise((resolve) => setTimeout(resolve, Number(pause)));
}
process.exit(0);
