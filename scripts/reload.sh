#!/usr/bin/env bash
# Sends 100,000 requests through the gateway while it reloads its settings 20 times, five times from an invalid file. No
# request may fail, and each is served by one configuration. Prints the counts. REQUESTS and RELOADS set other numbers.
set -euo pipefail
cd "$(dirname "$0")/.."
RELOAD_REQUESTS=${REQUESTS:-100000} RELOADS=${RELOADS:-20} \
    cargo test --release --locked --quiet -p retry-service --test reload under_load -- --nocapture
