"""The proxies, each configured for several endpoints as its manual recommends.

All wait a second for a connection and for a response, and make up to three retries. The gateway's other settings are its
defaults.
"""

import json
import os
from dataclasses import dataclass

from network import NAME
from processes import Server, free_port, load_processors, proxy_processors

HEDGING = "hedging"
TITLES = {
    "gateway": "gateway",
    HEDGING: "gateway, `--hedge-after 95%`",
    "nginx": "nginx",
    "haproxy": "HAProxy",
    "envoy": "Envoy",
}
PORT = 8080  # Of all endpoints.


@dataclass(frozen=True)
class Programs:
    proxies: dict[str, str]  # Paths, by name.
    backend: str
    load: str
    folder: str

    def endpoint(self, address, script, log_level="off"):
        command = [self.backend, "--listen", f"{address}:{PORT}", "--script", script]
        log = os.path.join(self.folder, f"{address}.log")
        return Server(address, command, PORT, load_processors(False), log, host=address, log_level=log_level)

    def proxy(self, name, addresses, is_name):
        """Returns a proxy in front of these addresses, or of the name that has them."""
        port = free_port()
        command = [self.proxies[name], *COMMANDS[name](port, [NAME] if is_name else addresses, self.folder)]
        return Server(name, command, port, proxy_processors(False), os.path.join(self.folder, f"{name}.log"))


def gateway(port, hosts, _folder):
    upstreams = [flag for host in hosts for flag in ("--upstream", f"http://{host}:{PORT}")]
    return ["--forward", "--listen", f"127.0.0.1:{port}", *upstreams, "--timeout", "1s", "--connect-timeout", "1s"]


def hedging(port, hosts, folder):
    return [*gateway(port, hosts, folder), "--hedge-after", "95%"]


def nginx(port, hosts, folder):
    servers = " ".join(f"server {host}:{PORT} max_fails=1 fail_timeout=1s;" for host in hosts)
    modules = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{module}_temp_path {folder}/{module};" for module in modules)
    config = f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log /dev/null;
events {{ worker_connections 8192; }}
http {{
    {temporary} access_log off;
    upstream backend {{ least_conn; {servers} keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_connect_timeout 1s; proxy_read_timeout 1s;
            # By default, it does not repeat a POST that may have been processed.
            proxy_next_upstream error timeout invalid_header http_502 http_503 http_504; proxy_next_upstream_tries 4;
        }}
    }}
}}
"""
    return ["-e", "/dev/null", "-c", write(folder, "nginx.conf", config)]


def haproxy(port, hosts, folder):
    server = "observe layer7 error-limit 5 on-error mark-down check inter 1s fastinter 200ms fall 2 rise 2"
    if hosts == [NAME]:
        servers = f"server-template endpoint 2 {NAME}:{PORT} resolvers local resolve-prefer ipv4 {server}"
    else:
        servers = "\n    ".join(f"server {host} {host}:{PORT} {server}" for host in hosts)
    config = f"""
global
    nbthread 1
resolvers local
    nameserver one 127.0.0.1:53
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 1s
    timeout queue 10s
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response response-timeout junk-response 502 503 504
    http-reuse always
frontend in
    bind 127.0.0.1:{port}
    default_backend out
backend out
    balance leastconn
    option httpchk GET /hello
    # Its manual asks for this where requests must not be processed twice.
    http-request disable-l7-retry if METH_POST !{{ req.hdr(idempotency-key) -m found }}
    {servers}
"""
    return ["-db", "-f", write(folder, "haproxy.cfg", config)]


def envoy(port, hosts, folder):
    extensions = "type.googleapis.com/envoy.extensions"
    never_sent = "connect-failure,refused-stream"
    retries = {
        "retry_on": f"{never_sent},reset,gateway-error",
        "num_retries": 3,
        "per_try_timeout": "1s",
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": f"{extensions}.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
            }
        ],
        "host_selection_retry_max_attempts": 5,
    }
    has_key = {"prefix": "/", "headers": [{"name": "idempotency-key", "present_match": True}]}
    is_post = {"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "POST"}}]}
    # Requests that must not be processed twice are repeated only if they were never sent.
    once = retries | {"retry_on": never_sent}
    routes = [
        {"match": match, "route": {"cluster": "out", "timeout": "10s", "retry_policy": policy}}
        for match, policy in ((has_key, retries), (is_post, once), ({"prefix": "/"}, retries))
    ]
    manager = {
        "@type": f"{extensions}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{extensions}.filters.http.router.v3.Router"}}],
    }
    endpoints = [{"endpoint": {"address": socket_address(host, PORT)}} for host in hosts]
    cluster = {
        "name": "out",
        "type": "STRICT_DNS" if hosts == [NAME] else "STATIC",
        "dns_lookup_family": "V4_ONLY",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "out", "endpoints": [{"lb_endpoints": endpoints}]},
        # By default, it makes at most three retries at a time.
        "circuit_breakers": {"thresholds": [{"max_retries": 1024}]},
        "outlier_detection": {
            "consecutive_5xx": 5,
            "interval": "1s",
            "max_ejection_percent": 50,
        },
    }
    listener = {
        "address": socket_address("127.0.0.1", port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    config = json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})
    flags = "--disable-hot-restart --use-dynamic-base-id --log-level off --concurrency 1".split()
    return [*flags, "-c", write(folder, "envoy.json", config)]


COMMANDS = {"gateway": gateway, HEDGING: hedging, "nginx": nginx, "haproxy": haproxy, "envoy": envoy}


def socket_address(host, port):
    return {"socket_address": {"address": host, "port_value": port}}


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path
