# Sourced by demo and test: what they need on this machine, made once.
# shellcheck shell=sh

root=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pyzcrx

say() { echo "$(basename "$0"): $*" >&2; }
die() { say "$*"; exit 1; }

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
    log=$(mktemp)
    { $sudo apt-get -q update && DEBIAN_FRONTEND=noninteractive $sudo apt-get -qy \
        -o DPkg::Lock::Timeout=120 install --no-install-recommends $missing; } >"$log" 2>&1 ||
        { tail -n 20 "$log" >&2; die "apt-get failed: install by hand:$missing"; }
    rm -f "$log"
}

# environment GROUP: a venv with that dependency group of pyproject.toml, in $python.
environment() {
    base=$(command -v python3) || die "python3 is missing"
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "Python 3.11 or newer is needed, python3 is $("$base" --version)"
    key=$({ "$base" -VV; command -v "$base"; cat "$root/pyproject.toml"; echo "$1"; } |
        sha256sum | cut -c1-16)
    venv=$cache/venv/$key
    python=$venv/bin/python
    if ! [ -e "$venv/complete" ]; then
        say "making a Python environment (group $1)"
        rm -rf "$venv"
        "$base" -m venv "$venv"
        "$python" -m pip -q --disable-pip-version-check install --upgrade 'pip>=25.1'
        "$python" -m pip -q --disable-pip-version-check install \
            --group "$root/pyproject.toml:$1"
        touch "$venv/complete"
    fi
}
