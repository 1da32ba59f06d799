# After: delayed-backend --listen 8080 --control 9000
import os

import requests

backend = os.environ.get("BACKEND", "http://localhost:8080")
control = os.environ.get("CONTROL", "http://localhost:9000")

requests.put(f"{control}/script", data="status=503;retry-after=1,ok").raise_for_status()
assert requests.get(f"{backend}/hello").status_code == 503
assert requests.get(f"{backend}/hello").text == "Hello World!!!"

received = requests.get(f"{control}/requests").json()["requests"]
assert [request["response"]["status"] for request in received] == [503, 200]
assert received[0]["headers"]["user-agent"].startswith("python-requests/")
requests.post(f"{control}/reset").raise_for_status()
