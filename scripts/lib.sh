# shellcheck shell=bash
# Shared by the scripts beside it: `source` it first. Goes to the repository's top, and stops at the first error.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
cd "$root"

# A toolchain that was installed a moment ago is not on the path of this shell yet.
if ! command -v cargo >/dev/null && [ -r "${CARGO_HOME:-$HOME/.cargo}/env" ]; then
    # shellcheck disable=SC1091
    source "${CARGO_HOME:-$HOME/.cargo}/env"
fi

# What the reader should see: headings in bold, where there is a terminal to show them.
bold='' plain=''
if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' plain=$'\e[0m'
fi
readonly bold plain

heading() {
    printf '\n%s== %s%s\n' "$bold" "$*" "$plain"
}

stop() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# need THING:PACKAGE … : installs the Debian packages whose things are missing, and a C compiler, which some dependencies
# are built with. A thing is a program, NAME.pc for what is built against, or the path of a file.
need() {
    local pair packages=()
    compiles || packages+=(build-essential)
    for pair; do
        is_there "${pair%%:*}" || packages+=("${pair#*:}")
    done
    [ ${#packages[@]} -ne 0 ] || return 0
    install_packages "${packages[@]}"
    compiles || stop 'there is still no working C compiler'
    for pair; do
        is_there "${pair%%:*}" || stop "${pair%%:*} is still missing after its package ${pair#*:} was installed"
    done
}

is_there() {
    case $1 in
    /*) [ -e "$1" ] ;;
    *.pc) pkg-config --exists "${1%.pc}" 2>/dev/null ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# What Strongroom with all its drivers is built against.
need_libraries() {
    need pkg-config:pkg-config tss2-esys.pc:libtss2-dev libpcsclite.pc:libpcsclite-dev
}

# Debian keeps the server off the path.
need_postgres() {
    need psql:postgresql-client
    [ -n "$(ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null || command -v postgres)" ] || install_packages postgresql
}

# A compiler without the C library's headers is of no use.
compiles() {
    echo '#include <stdlib.h>' | cc -x c -fsyntax-only - 2>/dev/null
}

need_rust() {
    command -v cargo >/dev/null ||
        stop 'cargo is missing. Install a Rust toolchain, for example from https://rustup.rs, then run this again'
    # Cargo's own words, where it is older than Cargo.toml asks for, come with the build.
}

install_packages() {
    local as_root=()
    command -v apt-get >/dev/null ||
        stop "these are missing, and this is no Debian where I could install them: $*"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || stop "these Debian packages are missing, and I am neither root nor is there sudo.
Have root run: apt-get install $*"
        as_root=(sudo)
    fi
    agree "Install the Debian packages $*?" || stop "then install them yourself: apt-get install $*"
    if [ "${as_root[*]}" = sudo ]; then
        # Here it may ask for a password, if there is somebody to ask.
        { if may_ask; then sudo -v; else sudo -n true; fi; } || stop "sudo does not let me install them.
Have root run: apt-get install $*"
    fi
    printf 'Installing %s\n' "$*" >&2
    # Lists that are missing or out of date show in that it fails: only then are they fetched.
    apt_get install "$@" >/dev/null 2>&1 || { apt_get update && apt_get install "$@"; } ||
        stop "apt-get could not install them. Have root run: apt-get update && apt-get install $*"
}

# Runs apt-get quietly; what it said is shown only if it fails. Uses as_root of its caller.
apt_get() {
    local said
    said=$("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 \
        --no-install-recommends "$@" 2>&1 </dev/null) || {
        printf '%s\n' "$said" >&2
        return 1
    }
}

# Whether a person is there to answer.
may_ask() {
    [ -z "${CI:-}" ] && [ -t 0 ] && [ -t 2 ]
}

# Yes, if nobody is there to say no.
agree() {
    local answer
    may_ask || return 0
    read -r -p "$1 [Y/n] " answer || return 1
    case $answer in
    '' | [Yy]*) ;;
    *) return 1 ;;
    esac
}

# Where cargo puts what it builds.
target_directory() {
    cargo metadata --format-version 1 --no-deps --locked | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# start_swtpm DIR: a simulated TPM whose state lies in DIR. Sets tpm_uri to its device URI, and tpm_pid.
start_swtpm() {
    local port
    mkdir -p "$1"
    # Two neighbouring ports that nobody listens on; when somebody else was quicker, the next pair is tried.
    for ((port = 20000 + RANDOM % 20000; ; port += 2)); do
        swtpm socket --tpm2 --tpmstate dir="$1" --flags not-need-init,startup-clear \
            --server type=tcp,port="$port",bindaddr=127.0.0.1 \
            --ctrl type=tcp,port=$((port + 1)),bindaddr=127.0.0.1 >"$1/log" 2>&1 &
        tpm_pid=$!
        # The control port: the other serves one client at a time.
        if comes_up "$tpm_pid" $((port + 1)); then break; fi
        ((port < 60000)) || stop "swtpm does not start: $(cat "$1/log")"
    done
    # shellcheck disable=SC2034 # For whoever sourced this file.
    tpm_uri="tpm:?tcti=swtpm:host=127.0.0.1,port=$port"
}

# comes_up PID PORT: waits until something listens there, and the process has not ended over finding the port taken.
comes_up() {
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        kill -0 "$1" 2>/dev/null || return 1
        if (: </dev/tcp/127.0.0.1/"$2") 2>/dev/null; then
            sleep 0.1
            kill -0 "$1" 2>/dev/null
            return
        fi
        sleep 0.02
    done
    return 1
}

# start_yubikey DIR [ARGUMENT…]: a virtual YubiKey (tests/yubikey) whose state lies in DIR; arguments as for its program `vyk`.
# Programs of this script that speak PC/SC see it from then on, and no other. What is written to file descriptor yubikey
# plays the world: `echo remove >&"$yubikey"`. When that is closed, it ends.
start_yubikey() {
    local built tries
    mkdir -p "$1/lib"
    # The whole workspace: what Strongroom itself was built with serves here as well.
    cargo build --quiet --locked --workspace
    built=$(target_directory)/debug
    ln -sf "$built/libvirtual_pcsclite.so" "$1/lib/libpcsclite.so.1"
    # shellcheck disable=SC2034 # For whoever sourced this file.
    exec {yubikey}> >(exec "$built/vyk" "$@" >/dev/null)
    for ((tries = 0; tries < 100; tries++)); do
        if [ -S "$1/socket" ] && [ -e "$1/root.pem" ]; then break; fi
        sleep 0.05
    done
    [ -e "$1/root.pem" ] || stop 'the virtual YubiKey does not start'
    export LD_LIBRARY_PATH="$1/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" STRONGROOM_TEST_PCSC="$1/socket"
}
