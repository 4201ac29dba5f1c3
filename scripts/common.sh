# Sourced by demo, test and get-liburing: what they need on this machine, made once.
# shellcheck shell=sh

root=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pyzcrx

# Debian's packages, by what they are for.
build_packages="python3-venv python3-dev gcc libc6-dev pkg-config"
guest_packages="kmod util-linux mount mmdebstrap uidmap e2fsprogs tar zstd \
    debian-archive-keyring"
test_packages="make git binutils cmake ninja-build cpio iproute2"

say() { echo "$(basename "$0"): $*" >&2; }
die() { say "$*"; exit 1; }

# A signal ends what runs, too. Only apt-get, which must not stop half-way, is waited for.
child=
beside=
starting=
output=
stop() {
    trap '' TERM INT HUP
    [ -z "$starting" ] || end "${!:-}" # begun, and not noted yet
    end "$child"
    exit "$1"
}
end() { # PID: with its process group, which it has only once setsid has begun
    [ -n "$1" ] || return 0
    tries=1000
    until kill -s TERM -- "-$1" 2>/dev/null || [ $((tries -= 1)) = 0 ]; do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.01
    done
    wait "$1" 2>/dev/null || true
}
clean() { [ -z "$output" ] || rm -f "$output"; }
trap 'stop 143' TERM
trap 'stop 130' INT
trap 'stop 129' HUP
trap 'end "$beside"; clean' EXIT

# run COMMAND...: in a process group of its own, as the shell would handle no signal while it
# waits for a command in the foreground.
run() {
    starting=1
    setsid "$@" &
    child=$!
    starting=
    status=0
    wait "$child" || status=$?
    child=
    return "$status"
}

# meanwhile COMMAND...: run it beside what comes next, without a word. It is for what is made once
# and asked for again later, which then says what went wrong.
meanwhile() {
    starting=1
    setsid "$@" >/dev/null 2>&1 &
    beside=$!
    starting=
}

# output_of COMMAND...: run it; what it prints is in $printed.
output_of() {
    output=$(mktemp)
    run "$@" >"$output" || return
    printed=$(cat "$output")
    clean
    output=
}

# room FOLDER MIB: is there so much room in it?
room() {
    mkdir -p "$1" || die "$1 cannot be made"
    free=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$2" ] || die "not enough space: $1 has $free MiB free, $2 MiB are needed: \
make room there, or set XDG_CACHE_HOME to a folder with more"
}

# need PACKAGE...: install what is missing by apt, saying so first.
need() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null; then
        die "these packages (by Debian's names) or their like are needed:$missing"
    fi
    sudo=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "as root: apt-get install$missing"
        sudo=sudo
    fi
    say "installing:$missing"
    # The lists may be older than the archive, which keeps only its newest.
    output=$(mktemp)
    { $sudo apt-get -q update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qy \
        -o DPkg::Lock::Timeout=120 install --no-install-recommends $missing; } >"$output" 2>&1 ||
        { tail -n 20 "$output" >&2; die "apt-get failed: install by hand:$missing"; }
    clean
    output=
}

# alone FOLDER: nobody else makes anything there until descriptor 8 is closed. Commands inherit
# it, so that it is free only when all of them are dead.
alone() {
    mkdir -p "$1" || die "$1 cannot be made"
    exec 8>"$1/lock"
    flock -n 8 || { say "waiting for another run, which is at work in $1"; run flock 8; }
}

# environment GROUP MIB: a venv of that size with that dependency group of pyproject.toml, in
# $python.
environment() {
    base=$(command -v python3) || die "python3 is missing"
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "Python 3.11 or newer is needed, python3 is $("$base" --version)"
    key=$({ "$base" -VV; command -v "$base"; cat "$root/pyproject.toml"; echo "$1"; } |
        sha256sum | cut -c1-16)
    venv=$cache/venv/$key
    python=$venv/bin/python
    [ -e "$venv/complete" ] && return
    alone "$cache/venv"
    if ! [ -e "$venv/complete" ]; then
        room "$cache" "$2"
        say "making a Python environment (group $1)"
        rm -rf "$venv"
        { run "$base" -m venv "$venv" &&
            run "$python" -m pip -q --disable-pip-version-check install --upgrade 'pip>=25.1' &&
            run "$python" -m pip -q --disable-pip-version-check install \
                --group "$root/pyproject.toml:$1"; } || die "no Python environment: see above"
        touch "$venv/complete"
    fi
    exec 8>&-
}

# liburing: the current one, for what is built.
liburing() {
    [ -z "$beside" ] || wait "$beside" || true
    beside=
    output_of "$root/scripts/get-liburing" || exit
    PKG_CONFIG_PATH=$printed
    export PKG_CONFIG_PATH
}

installed() {
    [ "$(cat "$venv/installed" 2>/dev/null)" = "$printed" ] &&
        "$python" -P -c 'import pyzcrx' 2>/dev/null
}

# wheel: pyzcrx, built from this checkout and installed in the environment, with what it needs. It
# stays the one that is installed there until the caller and what he executes are dead
# (descriptor 7): who has built another waits.
wheel() {
    output_of "$python" -m vm wheel || exit
    exec 7>"$venv/using"
    while :; do # changing the kind of a lock releases it for a moment, so look again
        flock -sn 7 || {
            say "waiting for another run, which installs pyzcrx in $venv"
            run flock -s 7
        }
        if installed; then return 0; fi
        flock -n 7 || {
            say "waiting for another run, which uses another pyzcrx in $venv"
            run flock 7
        }
        if installed; then continue; fi
        rm -f "$venv/installed"
        { run "$python" -m pip -q --disable-pip-version-check install --no-deps --force-reinstall \
            "$printed" &&
            run "$python" -m pip -q --disable-pip-version-check install "$printed"; } ||
            die "pyzcrx cannot be installed: see above"
        echo "$printed" >"$venv/installed"
    done
}
