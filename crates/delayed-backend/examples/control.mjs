// After: delayed-backend --listen 8080 --control 9000
import assert from "node:assert/strict";

const backend = process.env.BACKEND ?? "http://localhost:8080";
const control = process.env.CONTROL ?? "http://localhost:9000";

const changed = await fetch(`${control}/script`, { method: "PUT", body: "status=503;retry-after=1,ok" });
assert.ok(changed.ok, await changed.text());
assert.equal((await fetch(`${backend}/hello`)).status, 503);
assert.equal(await (await fetch(`${backend}/hello`)).text(), "Hello World!!!");

const { requests } = await (await fetch(`${control}/requests`)).json();
assert.deepEqual(requests.map((request) => request.response.status), [503, 200]);
await fetch(`${control}/reset`, { method: "POST" });
