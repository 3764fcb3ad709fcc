#!/usr/bin/env bash
# Runs the tiers named in TIERS one after the other and says how each ended; stops at the first that fails.
# Usage: TIERS="check unit" scripts/test.sh; WORKERS=1 runs the tests one by one
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH" PYTHONDONTWRITEBYTECODE=1
TIERS="${TIERS:-check unit integration e2e}"

say() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

for tier in $TIERS; do
    case $tier in
        check | unit) ;;
        integration)
            command -v redis-server >/dev/null || [ "$(id -u)" = 0 ] ||
                die "the integration tier needs redis-server; run 'apt-get install redis-server' as root, or name fewer tiers, for example: make test TIERS='check unit'" ;;
        e2e)
            [ "$(id -u)" = 0 ] || [ -n "${HEAVYLIFT_E2E_KUBECONFIG:-}" ] ||
                die "the e2e tier starts a kubelet and needs root (or HEAVYLIFT_E2E_KUBECONFIG); without root run: make test TIERS='check unit integration'" ;;
        *) die "no tier '$tier': there are check, unit, integration and e2e" ;;
    esac
done

run_check() {
    ruff format --check --quiet .
    ruff check --quiet .
    mypy
    lint-imports --no-logo
    shellcheck scripts/*.sh tests/*.sh .ci/run
    yamllint --strict .
    python scripts/generate.py --check
}

# One file's tests stay together: they share servers.
PARALLEL=(--numprocesses "${WORKERS:-auto}" --maxprocesses 4 --dist loadfile)

run_unit() { pytest "${PARALLEL[@]}" tests/unit; }

run_integration() {
    python -m tests.cluster build --nodes=kwok
    pytest "${PARALLEL[@]}" tests/integration
}

run_e2e() {
    [ -n "${HEAVYLIFT_E2E_KUBECONFIG:-}" ] || python -m tests.cluster build --nodes=real
    pytest tests/e2e
}

summary=""
for tier in $TIERS; do
    say "tier: $tier"
    started=$SECONDS
    "run_$tier"
    summary+=$(printf '\n  %-12s passed in %d s' "$tier" $((SECONDS - started)))
done
say "all tiers passed$summary"
