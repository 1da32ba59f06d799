"""Tests a client of the shop against the stubs in shop.toml: python3 -m unittest test_shop.py

DELAYED_BACKEND is the program to start; by default, it is looked for in PATH.
"""

import hashlib
import http.client
import http.cookiejar
import json
import os
import pathlib
import subprocess
import time
import unittest
import urllib.error
import urllib.request

STUBS = pathlib.Path(__file__).with_name("shop.toml")
PROGRAM = os.environ.get("DELAYED_BACKEND", "delayed-backend")


class Shop:
    """The client under test."""

    def __init__(self, url):
        self.url = url
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(cookies)

    def call(self, method, path, body=None, headers={}, attempts=3):
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        for attempt in range(1, attempts + 1):
            try:
                with self.opener.open(request, timeout=10) as response:
                    return json.loads(response.read() or b"null")
            except urllib.error.HTTPError as error:
                wait = error.headers["Retry-After"]
                if wait is None or attempt == attempts:
                    raise
                time.sleep(float(wait))
            except (urllib.error.URLError, ConnectionError, http.client.RemoteDisconnected):
                if attempt == attempts:
                    raise

    def items(self):
        path = "/items"
        while path:
            page = self.call("GET", path)
            yield from page["items"]
            path = page.get("next")

    def item(self, number):
        return self.call("GET", f"/items/{number}")

    def login(self):
        self.call("POST", "/login", b"name=ada")

    def me(self):
        return self.call("GET", "/me")

    def upload(self, name, photo):
        return self.call("PUT", f"/photos/{name}", photo, {"Content-Type": "image/png"})


class ShopTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        arguments = [PROGRAM, "--listen", "0", "--control", "0", "--print-addresses", "--stubs", str(STUBS)]
        cls.backend = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        addresses = json.loads(cls.backend.stdout.readline())
        cls.url, cls.control_url = addresses["url"], addresses["control_url"]

    @classmethod
    def tearDownClass(cls):
        cls.backend.terminate()
        cls.backend.wait(timeout=10)
        cls.backend.stdout.close()

    def setUp(self):
        self.control("POST", "/reset")
        self.shop = Shop(self.url)

    def control(self, method, path, body=None):
        request = urllib.request.Request(self.control_url + path, body, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.read()

    def requests(self):
        return json.loads(self.control("GET", "/requests"))["requests"]

    def test_all_pages_are_read(self):
        self.assertEqual([item["name"] for item in self.shop.items()], ["tea", "milk", "honey"])
        self.assertEqual([request["target"] for request in self.requests()], ["/items", "/items?page=2"])

    def test_the_cookie_of_the_login_is_sent(self):
        with self.assertRaises(urllib.error.HTTPError) as caught:
            self.shop.me()
        self.assertEqual(caught.exception.code, 401)
        caught.exception.close()
        self.shop.login()
        self.assertEqual(self.shop.me()["name"], "Ada")
        self.assertEqual([request["stub"] for request in self.requests()], ["not logged in", "login", "logged in"])
        self.assertEqual(self.requests()[1]["body"]["text"], "name=ada")

    def test_a_429_is_repeated_after_its_retry_after(self):
        start = time.monotonic()
        self.assertEqual([self.shop.item(number)["id"] for number in (7, 8, 9)], ["7", "8", "9"])
        self.assertGreaterEqual(time.monotonic() - start, 1)
        statuses = [request["response"]["status"] for request in self.requests()]
        self.assertEqual(statuses, [200, 200, 429, 200])

    def test_an_upload_arrives_whole_after_a_reset(self):
        photo = os.urandom(300_000)
        self.assertEqual(self.shop.upload("cat.png", photo), {"name": "cat.png"})
        requests = self.requests()
        self.assertEqual([request["behavior"] for request in requests], ["reset", "ok"])
        for request in requests:
            self.assertEqual(request["body"]["length"], len(photo))
            self.assertEqual(request["body"]["sha256"], hashlib.sha256(photo).hexdigest())

    def test_a_short_outage_is_survived(self):
        self.addCleanup(self.control, "PUT", "/stubs", STUBS.read_bytes())
        self.control("PUT", "/script?stub=item", b"close,status=503;retry-after=0,ok")
        self.assertEqual(self.shop.item(1)["id"], "1")
        self.assertEqual(len(self.requests()), 3)


if __name__ == "__main__":
    unittest.main()
