#!/usr/bin/env bash
# What a newcomer meets: clones the committed tree into an empty home and runs the README's two commands, cold and warm.
# Needs root and the network; takes about an hour; a warm demo of more than five minutes is a failure.
# Usage: tests/fresh.sh [--keep]
set -euo pipefail
source_tree=$(cd "$(dirname "$0")/.." && pwd)
home=$(mktemp -d /var/tmp/heavylift-fresh.XXXXXX)
keep=${1:-}
report="$home/times.txt"

clean_up() {
    [ -x "$home/heavylift/.venv/bin/python" ] && run make demo-down || true
    if [ "$keep" != --keep ]; then
        chmod -R u+w "$home" 2>/dev/null || true   # Go's module cache is read-only
        rm -rf "$home"
    fi
}
trap clean_up EXIT

run() {
    (cd "$home/heavylift" && env -i HOME="$home" PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin" \
        LANG=C.UTF-8 ${SSL_CERT_FILE:+SSL_CERT_FILE="$SSL_CERT_FILE"} \
        ${NODE_EXTRA_CA_CERTS:+NODE_EXTRA_CA_CERTS="$NODE_EXTRA_CA_CERTS"} "$@" </dev/null)
}

timed() {
    local label=$1 started=$SECONDS
    shift
    echo "==> $label: $*"
    run "$@"
    seconds=$((SECONDS - started))
    printf '%-12s %5d s\n' "$label" "$seconds" | tee -a "$report"
}

[ "$(id -u)" = 0 ] || { echo "error: needs root (it starts a kubelet)" >&2; exit 1; }
git clone -q "$source_tree" "$home/heavylift"
timed "demo, cold" make demo
timed "demo, down" make demo-down
timed "test, cold" make test
timed "demo, warm" make demo
[ "$seconds" -le 300 ] || { echo "error: a warm demo took $seconds s; it has 300" >&2; exit 1; }
timed "demo, down" make demo-down
timed "test, warm" make test
echo; echo "times:"; cat "$report"
