#!/usr/bin/env bash
# Installs the programs DataGuardian needs from the system's package manager:
#
#   install-packages.sh run    what "make run" needs: PostgreSQL's server and client
#   install-packages.sh test   that, and the other programs the tests start
#   install-packages.sh bench  the first, and the programs "make bench" compares with
#   install-packages.sh matrix the first, and what "make matrix" fetches packages with
#
# Looks for programs, not for packages: when all are there it changes nothing and
# works on any system. Only what is missing is installed (Debian and Ubuntu).
# It asks no questions, starts no service and creates no database cluster.
set -euo pipefail

usage() {
	echo "usage: $0 run|test|bench|matrix" >&2
	exit 2
}

[[ $# -eq 1 ]] || usage
readonly mode=$1

# Debian keeps server programs where an ordinary user's PATH does not look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

missing_programs=()
missing_packages=()

# has_postgresql succeeds when one directory holds the server and the client programs.
has_postgresql() {
	local directory program
	local -a directories=(/usr/lib/postgresql/*/bin /usr/pgsql-*/bin)
	IFS=: read -ra path <<<"$PATH"
	for directory in "${directories[@]}" "${path[@]}"; do
		for program in initdb postgres pg_dump pg_restore psql; do
			[[ -x $directory/$program ]] || continue 2
		done
		return 0
	done
	return 1
}

# need PACKAGE PROGRAM... notes the package when one of its programs is missing.
need() {
	local package=$1 program
	shift
	for program in "$@"; do
		if ! command -v "$program" >/dev/null; then
			missing_programs+=("$program")
			missing_packages+=("$package")
			return
		fi
	done
}

look() {
	if ! has_postgresql; then
		missing_programs+=("PostgreSQL's server and client")
		missing_packages+=(postgresql postgresql-client)
	fi
	case $mode in
	test) look_for_tests ;;
	bench) look_for_bench ;;
	matrix) need patchelf patchelf ;;
	esac
}

look_for_bench() {
	need zstd zstd
	need mariadb-server-core mariadbd mariadb-install-db
	need mariadb-client mariadb mariadb-dump
	need mydumper mydumper
	need redis-server redis-server
}

look_for_tests() {
	# The -core package has the server without a service that would start with the system.
	need mariadb-server-core mariadbd mariadb-install-db
	need mariadb-client mariadb mariadb-dump mariadb-admin
	need redis-server redis-server
	need redis-tools redis-cli
	# Backups are opened without DataGuardian, as docs/recovery.md shows.
	need age age age-keygen
	need zstd zstd
	need python3 python3
	# One of the examples is a line of curl.
	need curl curl
	# The race detector needs a C compiler, which does not bring the headers along.
	need gcc gcc
	if ! echo '#include <stdlib.h>' | gcc -E - >/dev/null 2>&1; then
		missing_programs+=("the C library's headers")
		missing_packages+=(libc6-dev)
	fi
}

# become_root runs this script again as root, or says what to do by hand.
become_root() {
	[[ $(id -u) -eq 0 ]] && return
	if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
		exec sudo -n -- "$(readlink -f "$0")" "$mode"
	fi
	echo "install-packages: not root and no sudo without a password; run by hand: apt-get install -y ${missing_packages[*]}" >&2
	exit 1
}

readonly policy=/usr/sbin/policy-rc.d
readonly dropin=/etc/postgresql-common/createcluster.d/zz-dataguardian-install.conf
made=()

undo() {
	[[ ${#made[@]} -eq 0 ]] || rm -f "${made[@]}"
}

# forbid_service_start makes packages leave their services alone while we install.
forbid_service_start() {
	[[ ! -e $policy ]] || return 0
	made+=("$policy")
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 0755 "$policy"
}

# forbid_cluster keeps the server package from creating a cluster named "main".
forbid_cluster() {
	made+=("$dropin")
	mkdir -p "$(dirname "$dropin")"
	echo 'create_main_cluster = false' >"$dropin"
}

apt() {
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null
}

install_packages() {
	local package
	trap undo EXIT
	forbid_service_start
	apt update
	for package in "${missing_packages[@]}"; do
		if [[ $package == postgresql ]]; then
			# Brings the directory that the setting about clusters belongs in.
			apt install --no-install-recommends postgresql-common
			forbid_cluster
		fi
	done
	apt install --no-install-recommends "${missing_packages[@]}"
	for package in "${missing_packages[@]}"; do
		if [[ $package == redis-server && -d /run/systemd/system ]]; then
			# Installed for tests only: it should not start with the system either.
			systemctl disable --quiet redis-server
		fi
	done
}

case $mode in
run | test | bench | matrix) ;;
*) usage ;;
esac

shopt -s nullglob
look
if [[ ${#missing_packages[@]} -eq 0 ]]; then
	exit 0
fi
if ! command -v apt-get >/dev/null; then
	echo "install-packages: missing: ${missing_programs[*]}. This system has no apt-get: install them with its own package manager, then run this again (Debian's names: ${missing_packages[*]})." >&2
	exit 1
fi
become_root
echo "install-packages: installing ${missing_packages[*]}"
install_packages

missing_programs=()
missing_packages=()
look
if [[ ${#missing_packages[@]} -ne 0 ]]; then
	echo "install-packages: still missing after the installation: ${missing_programs[*]}" >&2
	exit 1
fi
