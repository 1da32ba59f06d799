#!/usr/bin/env bash
# Uses the page of the control API in headless Chromium, and takes the picture of docs/control.md. PICTURES names a folder
# for more pictures: dark, narrow, a mistake, without JavaScript. Needs Python, and Chromium, which it installs with
# apt-get if it may.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/common.sh
. scripts/common.sh
with_work_folder
install_missing chromium
build -p delayed-backend --bin delayed-backend

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet websockets==17.4
pictures=${PICTURES:-$work}
mkdir -p "$pictures"

serve backend "$(executable delayed-backend)" --listen 127.0.0.1:0 --script ok \
    --control 127.0.0.1:0 --control-port-file "$work/port"
"$work/venv/bin/python" scripts/control-page.py chromium "$pictures" "http://$address" "http://127.0.0.1:$(cat "$work/port")" \
    docs/pictures/control-page.png
