import json
import os
import subprocess

import pytest
import requests

STUBS = """
[[stub]]
name = "item"
path = "/items/{id}"
response = { json = { id = "{id}" } }
"""


@pytest.fixture(scope="session")
def backend():
    program = os.environ.get("DELAYED_BACKEND", "delayed-backend")
    arguments = [program, "--listen", "0", "--control", "0", "--print-addresses"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    yield json.loads(process.stdout.readline())  # url, port, control_url and control_port
    process.terminate()
    process.wait()


def test_an_item_is_read_in_spite_of_a_503(backend):
    control = backend["control_url"]
    requests.put(f"{control}/stubs", data=STUBS).raise_for_status()
    requests.put(f"{control}/script", params={"stub": "item"}, data="status=503,ok").raise_for_status()
    requests.post(f"{control}/reset").raise_for_status()

    statuses = [requests.get(f"{backend['url']}/items/7").status_code for _ in range(2)]  # the client under test

    assert statuses == [503, 200]
    received = requests.get(f"{control}/requests", params={"wait": 2}).json()["requests"]
    assert [request["target"] for request in received] == ["/items/7", "/items/7"]
