# Functions that scripts share. Sourced by bash, with the repository's root as the working directory.
# shellcheck shell=bash

say() { printf '%s\n' "$*"; }

# install_missing <command[:package] ...>: installs missing commands with apt-get if this user may.
install_missing() {
    local command packages=()
    for command in "$@"; do command -v "${command%:*}" >/dev/null || packages+=("${command#*:}"); done
    if [ ${#packages[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "Installing ${packages[*]} ..."
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"; } \
            >/dev/null 2>&1 || true
    fi
}

# build <cargo build arguments ...>: builds programs, whose paths `executable <name>` prints.
build() { built=$(cargo build --locked --quiet --message-format=json-render-diagnostics "$@"); }
executable() { sed -n 's|.*"executable":"\([^"]*/'"$1"'\)".*|\1|p' <<<"$built"; }

# build_gateway: sets `gateway` to the gateway's program, built as in docs/deploy/Containerfile, or with default features if
# make is missing.
build_gateway() {
    local features=jemalloc
    command -v make >/dev/null || features=
    say "Building the gateway${features:+ with $features} ..."
    build --release -p retry-service --bin retry-service --features "$features"
    gateway=$(executable retry-service)
}

# build_outage: sets `gateway` to $GATEWAY, or else to one that it builds, and `outage` to the example of that name, which needs
# strace.
build_outage() {
    install_missing strace
    gateway=${GATEWAY-}
    [ -n "$gateway" ] || build_gateway
    build --release -p retry-service --example outage
    outage=$(executable outage)
}

# with_work_folder: creates the temporary folder `work`. At exit, stops the processes in `pids` and removes the folder.
with_work_folder() {
    work=$(mktemp -d)
    pids=()
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}
clean_up() {
    local id
    for id in ${pids[@]+"${pids[@]}"}; do kill "$id" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}

# serve <name> <command ...>: starts a program of this repository, and sets `address` to where it serves.
serve() {
    local name=$1 tries
    shift
    # The redirection below happens in the new process, which may be slow to start.
    : >"$work/$name.log"
    RUST_LOG=${RUST_LOG-info} "$@" 2>"$work/$name.log" &
    pids+=($!)
    for ((tries = 0; tries < 200; tries++)); do
        address=$(sed -n 's|.*Serving http://\([0-9.:]*\)".*|\1|p' "$work/$name.log")
        [ -z "$address" ] || return 0
        kill -0 "${pids[${#pids[@]} - 1]}" 2>/dev/null || break
        sleep 0.05
    done
    say "$name does not start: $(cat "$work/$name.log")" >&2
    exit 1
}

# wait_for_port <name> <pid> <host> <port>: waits until a program listens.
wait_for_port() {
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        kill -0 "$2" 2>/dev/null || break
        (exec 3<>"/dev/tcp/$3/$4") 2>/dev/null && return
        sleep 0.05
    done
    say "$1 does not listen on $3:$4: $(tail -3 "$work/$1.log")" >&2
    exit 1
}
