#!/usr/bin/env bash
# Set up what the project's commands use: system packages, then a virtual environment in .venv.
# usage: scripts/setup.sh [dev]      (dev adds what the tests and the linters need)
# Does nothing, quickly, when all is there.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
kind=${1:-run}

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 3; }

# --- System packages ------------------------------------------------------------------------------

missing_packages() {
    command -v gcc >/dev/null || echo gcc
    command -v make >/dev/null || echo make
    [ -e /usr/include/stdio.h ] || echo libc6-dev
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    command -v openssl >/dev/null || echo openssl # the demo asks with it
    if [ "$kind" = dev ]; then
        command -v curl >/dev/null || echo curl
        command -v g++ >/dev/null || echo g++ # an Arduino sketch is built for the host and tested
    fi
}

install_packages() {
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || [ -t 0 ] && command -v sudo >/dev/null || return 1
        as_root=(sudo)
    fi
    command -v apt-get >/dev/null || return 1
    say "installing system packages: $*"
    "${as_root[@]}" apt-get update -qq || return 1
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "Python 3.11 or newer is needed as python3. Install it and try again."

mapfile -t missing < <(missing_packages)
if [ ${#missing[@]} -gt 0 ]; then
    install_packages "${missing[@]}" ||
        fail "these system packages are missing: ${missing[*]}. Install them, as root: apt-get install ${missing[*]}"
fi

# --- Virtual environment --------------------------------------------------------------------------

# One set-up at a time; the lock is on the folder itself, so nothing is left behind.
exec 9<"$root"
flock 9

wanted="$root $(python3 -c 'import sys; print(sys.version)') $(sha256sum <pyproject.toml)"
run_stamp=.venv/.handfast-run
dev_stamp=.venv/.handfast-dev
# `dev` includes `run`: either stamp satisfies a run, only its own satisfies dev.
fresh() { [ -f "$1" ] && [ "$(cat "$1")" = "$wanted" ]; }
fresh "$dev_stamp" && exit 0
[ "$kind" = run ] && fresh "$run_stamp" && exit 0

if [ ! -f "$run_stamp" ] && [ ! -f "$dev_stamp" ]; then
    rm -rf .venv            # never finished, or not ours to trust
    say "making a virtual environment in .venv"
    python3 -m venv .venv
fi
rm -f "$run_stamp" "$dev_stamp"

target=.
stamp=$run_stamp
[ "$kind" = dev ] && target='.[dev]' && stamp=$dev_stamp
say "installing Python packages into .venv (the first time takes about a minute)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable "$target" 2>&1 |
    { grep -v '^WARNING: Location' >&2 || true; } ||
    fail "the Python packages could not be installed (see above). Check the network, or pip's configuration, and try again."
printf '%s' "$wanted" >"$stamp"
