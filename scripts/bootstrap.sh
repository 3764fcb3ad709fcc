#!/usr/bin/env bash
# Makes .venv from uv.lock, installing Debian's Python when it is missing. Nothing to do when nothing changed.
#
# uv.lock names no index host: versions and hashes are exported from it and fetched from whichever index this machine
# is set up for (UV_DEFAULT_INDEX, or uv's default), so the same lock serves behind any mirror.
set -euo pipefail
cd "$(dirname "$0")/.."

UV_VERSION=0.13.9
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/heavylift"
VENV=.venv

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys, venv, ensurepip; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

install_python() {
    command -v apt-get >/dev/null || die "Python >= 3.11 with venv is missing; install it and run this again"
    [ "$(id -u)" = 0 ] || die "Python >= 3.11 with venv is missing; run 'apt-get install python3 python3-venv' as root"
    say "installing python3 and python3-venv (apt-get)"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3 python3-venv ca-certificates >/dev/null
}

python=$(find_python) || { install_python; python=$(find_python) || die "no Python >= 3.11 with venv, even after apt-get"; }

stamp=$(cat uv.lock pyproject.toml scripts/bootstrap.sh <("$python" -VV) <(pwd) | sha256sum | cut -d' ' -f1)
if [ -x $VENV/bin/python ] && [ "$(cat $VENV/heavylift-stamp 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi

uv="$CACHE/uv-$UV_VERSION/bin/uv"
if ! "$uv" --version >/dev/null 2>&1; then
    say "fetching uv $UV_VERSION into $CACHE"
    rm -rf "$CACHE/uv-$UV_VERSION"
    "$python" -m venv "$CACHE/uv-$UV_VERSION"
    "$CACHE/uv-$UV_VERSION/bin/python" -m pip install -q --disable-pip-version-check "uv==$UV_VERSION"
fi

say "making the Python environment in $VENV ($("$python" -V))"
mkdir -p build
rm -f $VENV/heavylift-stamp
if ! $VENV/bin/python -c '' 2>/dev/null; then
    rm -rf $VENV
    "$python" -m venv --without-pip $VENV
fi
"$uv" export -q --frozen --all-extras --no-emit-project -o build/requirements.txt
export UV_SYSTEM_CERTS=1
"$uv" pip sync -q --python $VENV/bin/python --require-hashes build/requirements.txt
"$uv" pip install -q --python $VENV/bin/python --no-deps --no-build-isolation -e .
printf '%s' "$stamp" >$VENV/heavylift-stamp
