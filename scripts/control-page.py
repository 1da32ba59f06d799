"""Uses the page of the control API in headless Chromium, over the DevTools protocol: what arrives appears, the script is
edited, mistakes are shown in their place, and nothing of a request becomes markup. Then takes a picture for the documents.

Usage: control-page.py CHROMIUM FOLDER BACKEND_URL CONTROL_URL PICTURE
"""

import asyncio
import base64
import http.client
import json
import os
import pathlib
import sys
import tempfile
import time
import urllib.error
import urllib.request

import websockets

chromium, folder, backend, control, picture = sys.argv[1:]

SCRIPT = "ok,status=503;retry-after=1;delay=120ms,truncate=20,reset,ok"
STUBS = """\
[[stub]]
name = "an item"
method = "GET"
path = "/items/{id}"
script = "status=503*2,ok"
[stub.response]
json = { id = "{id}", name = "tea" }

[[stub]]
path = "/login"
method = "POST"
[stub.response]
status = 204
headers = { set-cookie = "session=1" }
"""


def request(path, method="GET", body=None, base=None):
    """Sends a request; faults are expected."""
    try:
        with urllib.request.urlopen(urllib.request.Request((base or backend) + path, body, method=method), timeout=10) as response:
            return response.read().decode()
    except (urllib.error.HTTPError, OSError, http.client.HTTPException):
        return None


class Browser:
    """A page of Chromium, over the DevTools protocol."""

    running = []  # processes, which are ended also after a failure

    async def start(self, javascript=True, width=1240, height=860, dark=False):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        profile = pathlib.Path(self.profile.name)
        self.process = await asyncio.create_subprocess_exec(
            chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            "--remote-debugging-port=0", f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        self.running.append(self.process)
        port_file = profile / "DevToolsActivePort"
        await until(lambda: port_file.exists() and port_file.read_text().count("\n") >= 1, "Chromium starts", 60)
        port = port_file.read_text().split("\n")[0]
        pages = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=30).read())
        url = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        self.socket = await websockets.connect(url, max_size=None)
        self.number, self.messages = 0, []
        await self.call("Runtime.enable")
        await self.call("Log.enable")
        await self.call("Page.enable")
        await self.call("Emulation.setScriptExecutionDisabled", value=not javascript)
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call("Page.navigate", url=f"{control}/")
        return self

    async def call(self, method, **parameters):
        self.number += 1
        await self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(await asyncio.wait_for(self.socket.recv(), 60))
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            if message["method"] in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.messages.append(message["params"])

    async def evaluate(self, expression):
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    async def key(self, key, code, modifiers=0):
        for kind in ("rawKeyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, modifiers=modifiers)

    async def html(self):
        """Returns the document, also without JavaScript."""
        root = (await self.call("DOM.getDocument", depth=0))["root"]["nodeId"]
        return (await self.call("DOM.getOuterHTML", nodeId=root))["outerHTML"]

    async def shows(self, what, expression):
        """Waits until an expression is true in the page."""
        await until(lambda: self.evaluate(expression), what)
        print(f"ok      {what}")

    async def screenshot(self, file):
        image = await self.call("Page.captureScreenshot", format="png")
        pathlib.Path(file).write_bytes(base64.b64decode(image["data"]))

    async def stop(self):
        await self.socket.close()
        self.process.terminate()
        await self.process.wait()
        self.running.remove(self.process)
        self.profile.cleanup()


async def until(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return
        if time.monotonic() > end:
            sys.exit(f"FAILED  {what}")
        await asyncio.sleep(0.1)


async def traffic():
    for path, method, body in [
        ("/hello", "GET", None), ("/hello", "GET", None), ("/items/7", "GET", None), ("/items/7", "GET", None),
        ("/items/7", "GET", None), ("/login", "POST", b"name=a"), ("/bytes/65536", "GET", None), ("/hello", "GET", None),
        ("/echo", "POST", b"<b>tea</b>"), ("/search?q=%3Cscript%3Ealert(1)%3C/script%3E", "GET", None), ("/hello", "GET", None),
    ]:  # fmt: skip
        await asyncio.to_thread(request, path, method, body)


async def main():
    browser = await Browser().start()
    cells = "[...document.querySelectorAll('#rows .{}')].map((cell) => cell.textContent)"
    paths, stubs, faults = cells.format("path"), cells.format("stub"), cells.format("fault")
    await browser.shows("the page is connected", "document.getElementById('connection')?.textContent === 'Live'")

    # The script, with the keyboard.
    await browser.evaluate("document.getElementById('script').focus(); document.getElementById('script').select()")
    await browser.call("Input.insertText", text="ok,statsu=503")
    await browser.key("Enter", 13, modifiers=2)
    await browser.shows("a mistake is shown in its place", """(() => {
        const field = document.getElementById("script"), error = document.getElementById("script-error").textContent;
        const selected = field.value.slice(field.selectionStart, field.selectionEnd);
        return error.includes("did you mean status=503?") && field.getAttribute("aria-invalid") === "true" && selected === "statsu=503";
    })()""")
    assert request("/script", base=control) == "ok", "an invalid script has changed something"
    await browser.screenshot(pathlib.Path(folder, "mistake.png"))
    await browser.evaluate("document.getElementById('script').select()")
    await browser.call("Input.insertText", text=SCRIPT)
    await browser.evaluate("document.getElementById('script-apply').click()")
    await browser.shows("a script is applied", "document.getElementById('script-state').textContent === 'Applied.' && document.getElementById('script-error').textContent === ''")
    assert request("/script", base=control) == SCRIPT

    # Stubs.
    await browser.evaluate("document.getElementById('stubs').focus()")
    await browser.call("Input.insertText", text="[[stub]]\nmethd = 'GET'")
    await browser.evaluate("document.getElementById('stubs-apply').click()")
    await browser.shows("a mistake in the stubs is shown", "document.getElementById('stubs-error').textContent === 'line 2, column 1, stub.methd: no such field; did you mean method?'")
    await browser.evaluate("document.getElementById('stubs-discard').click()")
    await asyncio.to_thread(request, "/stubs", "PUT", STUBS.replace("an item", "an <b>item</b>").encode(), control)
    await browser.shows("stubs that another client changes appear", "document.getElementById('stubs').value.includes('an <b>item</b>')")

    # What arrives.
    await traffic()
    await browser.shows("requests appear as they arrive", f"{paths}.length === 11 && {paths}[10] === '/hello'")
    await browser.shows("with their faults and stubs", f"{faults}.includes('reset') && {stubs}.includes('an <b>item</b>')")
    await browser.shows("markup is shown as text", f"{paths}[1].includes('%3Cscript%3E') && !document.querySelector('#rows b, #rows script')")

    await browser.evaluate("document.querySelectorAll('#rows .path button')[2].click()")
    await browser.shows("header fields and body of a request are shown as text", """(() => {
        const text = document.getElementById("detail-text").textContent;
        return text.startsWith("POST /echo HTTP/1.1\\n") && text.endsWith("\\n\\n<b>tea</b>") && document.activeElement.id === "detail-title";
    })()""")
    await browser.screenshot(pathlib.Path(folder, "detail.png"))
    await browser.evaluate("document.getElementById('detail-close').click()")
    await browser.shows("and closed", "document.getElementById('detail').hidden && document.activeElement.textContent === '/echo'")

    # The connection breaks: the browser connects again, and no row is double.
    await browser.call("Network.enable")
    await browser.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    await browser.evaluate("source.close(); connect()")
    await browser.shows("a broken connection is reported", "document.getElementById('connection').textContent.startsWith('Not connected')")
    await asyncio.to_thread(request, "/missed")
    await browser.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    await browser.shows("after a reconnect, all rows are there once", f"document.getElementById('connection').textContent === 'Live' && {paths}.length === 12 && {paths}[0] === '/missed'")

    # Many requests, then a reset.
    await asyncio.gather(*(asyncio.to_thread(request, f"/bytes/{n}") for n in range(300)))
    await browser.shows("the number of rows is limited", f"{paths}.length === 200 && document.getElementById('count').textContent === '312 received, the latest 200 shown'")
    await browser.evaluate("document.getElementById('down').click()")
    await browser.shows("the backend is taken down", "document.getElementById('action-done').textContent === 'The backend is down for 3s.'")
    assert request("/hello") is None
    await browser.evaluate("document.getElementById('up').click()")
    await browser.shows("and up", "document.getElementById('action-done').textContent === 'The backend is up.'")
    await asyncio.to_thread(request, "/stubs", "PUT", STUBS.encode(), control)
    await browser.evaluate("document.getElementById('reset').click()")
    await browser.shows("a reset empties the table", f"{paths}.length === 0 && document.getElementById('empty').textContent !== ''")
    await traffic()
    await browser.shows("and the script starts anew", f"{paths}.length === 11 && {faults}[10] === 'ok'")
    errors = [message for message in browser.messages if "ERR_INTERNET_DISCONNECTED" not in str(message) and "400 (Bad Request)" not in str(message)]
    assert not errors, errors
    await asyncio.sleep(2)
    await browser.evaluate("document.activeElement.blur(); document.getElementById('action-done').textContent = ''")
    await browser.screenshot(picture)
    await browser.stop()

    for name, width, dark in [("dark", 1240, True), ("narrow", 400, False)]:
        browser = await Browser().start(width=width, height=1000, dark=dark)
        await browser.shows(f"{name}: connected", f"document.getElementById('connection')?.textContent === 'Live' && {paths}.length === 11")
        await browser.shows(f"{name}: fits the window", "document.documentElement.scrollWidth <= innerWidth && (innerWidth < 1000 || document.querySelector('.table').scrollWidth <= document.querySelector('.table').clientWidth)")
        await asyncio.sleep(2)
        await browser.screenshot(pathlib.Path(folder, f"{name}.png"))
        await browser.stop()

    browser = await Browser().start(javascript=False)
    await asyncio.sleep(2)
    html = await browser.html()
    assert html.count("<tr>") == 12 and "With JavaScript, this page is live" in html, html
    await browser.screenshot(pathlib.Path(folder, "no-javascript.png"))
    print("ok      without JavaScript, the latest requests are there")
    await browser.stop()
    assert os.path.getsize(picture) < 150_000, "the picture is too large"


async def run():
    try:
        await main()
    finally:
        for process in Browser.running:
            process.terminate()
            await process.wait()


asyncio.run(run())
