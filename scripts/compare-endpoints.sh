#!/usr/bin/env bash
# Compares the gateway with nginx, HAProxy and Envoy in front of several endpoints, one of which fails: see
# scripts/endpoints/__main__.py, or --help. Installs nginx, HAProxy and make with apt-get if it may.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
. scripts/common.sh

PATH=$PATH:/usr/sbin:/sbin
install_missing nginx haproxy make ip:iproute2
export PYTHONDONTWRITEBYTECODE=1
exec python3 scripts/endpoints "$@"
