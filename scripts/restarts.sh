#!/usr/bin/env bash
# Sends 100,000 requests through the gateway while its upstream is killed and restarted several times a second. No
# idempotent request may fail, and no POST may be processed twice. Prints the counts. REQUESTS sets another number.
set -euo pipefail
cd "$(dirname "$0")/.."
TEST_LIMIT_S=3600 RESTARTS_REQUESTS=${REQUESTS:-100000} cargo test --release --locked --quiet -p retry-service --test restarts -- --nocapture
