#!/usr/bin/env bash
# Set up what the project's commands use: system packages, then a virtual environment in .venv.
# usage: scripts/setup.sh [dev|emulated]   (dev adds what the tests and the linters need, emulated
#                                          also what the emulated boards' firmware is built with)
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
    if [ "$kind" != run ]; then
        command -v curl >/dev/null || echo curl
        command -v patch >/dev/null || echo patch # custom firmware's changes to MicroPython
        command -v cmake >/dev/null || echo cmake # reads the definitions of its boards
        command -v qemu-system-arm >/dev/null || echo qemu-system-arm # runs the emulated board
        command -v arm-none-eabi-gcc >/dev/null || echo gcc-arm-none-eabi # builds its firmware
        [ -e /usr/lib/arm-none-eabi/newlib ] || echo libnewlib-arm-none-eabi
        command -v ssh >/dev/null || echo openssh-client # labgrid's way to what hangs on an exporter
        command -v g++ >/dev/null || echo g++ # an Arduino sketch is built for the host and tested
    fi
    if [ "$kind" = emulated ]; then
        command -v arm-none-eabi-g++ >/dev/null || echo gcc-arm-none-eabi
        [ -e /usr/include/newlib/stdio.h ] || echo libnewlib-arm-none-eabi
        command -v slirp-fullbolt >/dev/null || echo slirp # a network without privileges
    fi
}

# apt's own DPkg::Lock::Timeout does not wait for the lock of `apt-get update`.
lock_wait_s=300

apt_get() {
    local said began=$SECONDS told=
    until said=$("${as_root[@]}" env LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get "$@" 2>&1 >/dev/null); do
        if [[ $said != *'Could not get lock'* ]] || [ $((SECONDS - began)) -ge "$lock_wait_s" ]; then
            printf '%s\n' "$said" >&2
            return 1
        fi
        [ -n "$told" ] || say "another program uses apt, waiting for it, $lock_wait_s s at most: ${said%%$'\n'*}"
        told=yes
        sleep 2
    done
    [ -z "$said" ] || printf '%s\n' "$said" >&2
}

install_packages() {
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || [ -t 0 ] && command -v sudo >/dev/null || return 1
        as_root=(sudo)
    fi
    command -v apt-get >/dev/null || return 1
    say "installing system packages: $*"
    apt_get update -qq || return 1
    apt_get install -y -qq --no-install-recommends "$@"
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
# `dev` includes `run`: either stamp satisfies a run, only its own satisfies dev. `emulated` has the
# same Python packages as `dev`.
fresh() { [ -f "$1" ] && [ "$(cat "$1")" = "$wanted" ]; }
# The emulator comes from npm's registry, which npm knows; nothing else of it is used.
without_npm() { [ "$kind" = emulated ] && ! command -v npm >/dev/null && [ ! -x .venv/bin/npm ]; }
fresh "$dev_stamp" && ! without_npm && exit 0
[ "$kind" = run ] && fresh "$run_stamp" && exit 0

if [ ! -f "$run_stamp" ] && [ ! -f "$dev_stamp" ]; then
    rm -rf .venv            # never finished, or not ours to trust
    say "making a virtual environment in .venv"
    python3 -m venv .venv
fi
rm -f "$run_stamp" "$dev_stamp"

target=.
stamp=$run_stamp
[ "$kind" != run ] && target='.[dev]' && stamp=$dev_stamp
without_npm && target='.[dev,npm]'
say "installing Python packages into .venv (the first time takes about a minute)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable "$target" 2>&1 |
    { grep -v '^WARNING: Location' >&2 || true; } ||
    fail "the Python packages could not be installed (see above). Check the network, or pip's configuration, and try again."
printf '%s' "$wanted" >"$stamp"
