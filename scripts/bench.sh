#!/usr/bin/env bash
# Compares the gateway with a bare proxy on hyper, nginx, HAProxy and Envoy: see scripts/bench/__main__.py, or --help.
# Installs nginx, HAProxy, wrk, h2load and make with apt-get if it may.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
. scripts/common.sh

PATH=$PATH:/usr/sbin
install_missing nginx haproxy wrk h2load:nghttp2-client openssl make
for tool in nginx wrk h2load openssl; do
    command -v "$tool" >/dev/null || { say "bench: $tool is not installed" >&2; exit 1; }
done
export PYTHONDONTWRITEBYTECODE=1
exec python3 scripts/bench "$@"
