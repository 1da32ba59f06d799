"""The configurations of nginx, HAProxy and Envoy.

All do what the gateway does by default: they generate a request id, add `Via` and `X-Forwarded-*`, retry up to three
times after connection failures and 502, 503 and 504, and keep connections open. Everything else is as distributed,
except what `Setup` says.
"""

import json
from dataclasses import dataclass

from works import Work


@dataclass(frozen=True)
class Setup:
    """What a proxy has to do."""

    work: Work
    port: int
    upstream: int  # A port of 127.0.0.1.
    processors: int
    folder: str
    certificate: str  # Of an upstream with TLS.
    large_buffers: bool = False
    long_wait: bool = False  # Before a retry.


def nginx(setup):
    work = setup.work
    # Bodies of 1 MiB stay out of files, and requests are not buffered.
    large = (
        "proxy_request_buffering off; client_body_buffer_size 64k;"
        "proxy_buffer_size 64k; proxy_buffers 16 64k; proxy_busy_buffers_size 128k;"
    )
    listen = f"{'http2' if work.http2_clients else ''} {'reuseport' if setup.processors > 1 else ''}"
    tls = f"proxy_ssl_verify on; proxy_ssl_trusted_certificate {setup.certificate}; proxy_ssl_name localhost;"
    # One server four times, as nginx tries each at most once.
    servers = f"server 127.0.0.1:{setup.upstream} max_fails=0; " * 4
    return f"""
daemon off; worker_processes {setup.processors}; worker_rlimit_nofile 20000;
pid {setup.folder}/nginx.pid; error_log /dev/null;
events {{ worker_connections 19900; }}
http {{
    {temporary_folders(setup.folder)}
    access_log off; keepalive_requests 1000000000; client_max_body_size 0;
    upstream backend {{ {servers} keepalive 1024; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{setup.port} backlog=20000 {listen};
        location / {{
            proxy_pass {"https" if work.tls else "http"}://backend;
            proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_next_upstream error timeout invalid_header http_502 http_503 http_504; proxy_next_upstream_tries 4;
            proxy_read_timeout 600s;
            proxy_set_header Host $http_host;
            proxy_set_header X-Request-Id $request_id;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header Via "1.1 nginx";
            add_header X-Request-Id $request_id always;
            add_header Via "1.1 nginx" always;
            {tls if work.tls else ""} {large if setup.large_buffers else ""}
        }}
    }}
}}
"""


def backend_nginx(work, port, workers, folder, certificate, key):
    """Returns the configuration of the backend for all requests that nginx can respond to."""
    protocol = (
        f"ssl; ssl_certificate {certificate}; ssl_certificate_key {key}"
        if work.tls
        else "http2" if work.http2_upstream else ""
    )
    return f"""
daemon off; worker_processes {workers}; pid {folder}/backend.pid; error_log /dev/null;
events {{ worker_connections 8192; }}
http {{
    {temporary_folders(folder)}
    access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; sendfile on; default_type text/plain;
    server {{
        listen 127.0.0.1:{port} backlog=4096 {protocol};
        root {folder};
        location = /hello {{ return 200 "Hello World!!!"; }}
    }}
}}
"""


def temporary_folders(folder):
    modules = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{module}_temp_path {folder}/{module};" for module in modules)


def haproxy(setup):
    work = setup.work
    server = (
        f"ssl verify required ca-file {setup.certificate}" if work.tls else "proto h2" if work.http2_upstream else ""
    )
    # HAProxy waits only after a connection that failed, for a second.
    retries = 1000 if setup.long_wait else 3
    return f"""
global
    nbthread {setup.processors}
    maxconn 9500
defaults
    mode http
    timeout connect 3s
    timeout client 600s
    timeout server 600s
    retries {retries}
    retry-on conn-failure empty-response response-timeout junk-response 502 503 504
    http-reuse always
frontend in
    bind 127.0.0.1:{setup.port} backlog 20000 {"proto h2" if work.http2_clients else ""}
    unique-id-format %[uuid]
    unique-id-header X-Request-Id
    option forwardfor
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    http-request set-header X-Forwarded-Proto http
    http-request add-header Via "1.1 haproxy"
    http-response set-header X-Request-Id %[unique-id]
    http-response add-header Via "1.1 haproxy"
    default_backend out
backend out
    server one 127.0.0.1:{setup.upstream} {server}
"""


def envoy(setup):
    extensions = "type.googleapis.com/envoy.extensions"
    retries = {
        "retry_on": "connect-failure,refused-stream,reset,gateway-error",
        "num_retries": 3,
        # A millisecond is the least.
        "retry_back_off": (
            {"base_interval": "600s", "max_interval": "1200s"}
            if setup.long_wait
            else {"base_interval": "0.001s", "max_interval": "0.001s"}
        ),
    }
    forwarded_host = {
        "header": {"key": "x-forwarded-host", "value": "%REQ(:authority)%"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    host = {
        "name": "all",
        "domains": ["*"],
        "request_headers_to_add": [forwarded_host],
        "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "out", "timeout": "3600s", "retry_policy": retries}}
        ],
    }
    router = {"@type": f"{extensions}.filters.http.router.v3.Router", "suppress_envoy_headers": True}
    manager = {
        "@type": f"{extensions}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "stream_idle_timeout": "3600s",
        "use_remote_address": True,
        "always_set_request_id_in_response": True,
        "via": "1.1 envoy",
        "route_config": {"virtual_hosts": [host]},
        "http_filters": [{"name": "router", "typed_config": router}],
    }
    cluster = {
        "name": "out",
        "connect_timeout": "3s",
        # Without these, it drops most retries and waiting requests.
        "circuit_breakers": {
            "thresholds": [
                {name: 20000 for name in ("max_connections", "max_pending_requests", "max_requests", "max_retries")}
            ]
        },
        "load_assignment": {
            "cluster_name": "out",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(setup.upstream)}}]}],
        },
    }
    if setup.work.http2_upstream:
        options = {
            "@type": f"{extensions}.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        }
    if setup.work.tls:
        trusted = {"validation_context": {"trusted_ca": {"filename": setup.certificate}}}
        context = {
            "@type": f"{extensions}.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": trusted,
            "sni": "localhost",
        }
        cluster["transport_socket"] = {"name": "tls", "typed_config": context}
    listener = {
        "address": address(setup.port),
        "tcp_backlog_size": 20000,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
