#!/usr/bin/env bash
# Puts other versions of the databases into .cache/matrix, for "make matrix":
#
#   fetch-database-versions.sh            all of them
#   fetch-database-versions.sh SUITE...   those of some of Debian's suites
#
# They come from Debian's suites, from where the system's own apt gets Debian (or from
# DEBIAN_MIRROR, a URL without /debian), through apt, which checks the signatures with the
# system's keyring; nothing is installed, no package's script runs, and apt's own state
# is left alone. Programs of another suite need that suite's C library: the programs
# that are used get it written into them (patchelf), and run then as they are, for any
# user. Does nothing where a suite was fetched before; "rm -rf .cache/matrix" for newer
# packages. About 600 MB a suite.
set -euo pipefail

cd "$(dirname "$0")/.."
mkdir -p .cache/matrix
cache=$(readlink -f .cache/matrix)
readonly cache

declare -rA packages=(
	[bullseye]="postgresql-13 postgresql-client-13 mariadb-server-10.5 mariadb-client-10.5"
	[trixie]="postgresql-17 postgresql-client-17 mariadb-server mariadb-client"
	[sid]="postgresql-18 postgresql-client-18 mysql-server mysql-client"
)
# Change it to have everything fetched anew.
readonly layout=1

fail() {
	echo "fetch-database-versions: $*" >&2
	exit 1
}

# mirror prints where the system gets Debian from.
mirror() {
	local uri
	uri=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sed -n 's#/debian/*$##p' | sort -u | head -n 1)}
	[[ -n $uri ]] || fail "no source of Debian's packages is known to apt: name one, as DEBIAN_MIRROR=http://HOST"
	echo "$uri"
}

# sources prints where a suite's packages are. Unstable has no security suite.
sources() {
	local from
	from=$(mirror)
	echo "deb $from/debian $1 main"
	[[ $1 == sid ]] || echo "deb $from/debian-security $1-security main"
}

# apt_for runs apt-get on a system that has nothing installed yet. Mirrors that stand
# still are fine: what is signed is still checked, only not how old the list is.
apt_for() {
	local state=$1
	shift
	APT_CONFIG=$state/apt.conf apt-get -qq "$@" </dev/null
}

# download brings the packages of a suite, and all that they need.
download() {
	local suite=$1 state=$2
	mkdir -p "$state"/{lists/partial,archives/partial,etc/preferences.d,etc/apt.conf.d}
	: >"$state/status"
	sources "$suite" >"$state/sources.list"
	cat >"$state/apt.conf" <<-CONF
		Dir::Etc "$state/etc";
		Dir::Etc::sourcelist "$state/sources.list";
		Dir::Etc::sourceparts "-";
		Dir::Etc::trusted "/etc/apt/trusted.gpg";
		Dir::Etc::trustedparts "/etc/apt/trusted.gpg.d";
		Dir::State "$state";
		Dir::State::status "$state/status";
		Dir::Cache "$state";
		APT::Install-Recommends "false";
		APT::Sandbox::User "root";
		Acquire::Check-Valid-Until "false";
		Acquire::Languages "none";
		Acquire::Retries "3";
	CONF
	apt_for "$state" update
	# shellcheck disable=SC2086 # words of a list of ours
	apt_for "$state" install --yes --download-only ${packages[$suite]}
}

# unpack makes a tree of what was downloaded, without its documentation.
unpack() {
	local state=$1 root=$2 deb
	mkdir -p "$root"/usr/{bin,sbin,lib,lib64}
	for deb in bin sbin lib lib64; do
		ln -s "usr/$deb" "$root/$deb"
	done
	for deb in "$state"/archives/*.deb; do
		dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink --no-same-owner \
			--exclude='./usr/share/doc' --exclude='./usr/share/man' --exclude='./usr/share/locale' --exclude='./etc' --exclude='./var'
	done
}

# is_program tells programs from scripts.
is_program() { [[ -f $1 && -x $1 && ! -L $1 ]] && [[ $(head -c 4 "$1" | tail -c 3) == ELF ]]; }

# settle writes the tree's C library and the places of its libraries into the programs.
settle() {
	local tree=$1 root=$2 loader program libraries
	# The usual name may be a link out of the tree.
	loader=$(find "$root/usr/lib" -maxdepth 2 -type f \( -name 'ld-linux*.so.*' -o -name 'ld-2.*.so' \) | head -n 1)
	[[ -n $loader ]] || fail "the tree of $tree has no C library"
	loader=$tree/${loader#"$root"/}
	libraries=$(cd "$root" && printf "$tree/%s:" usr/lib/*-linux-gnu usr/lib/*/private usr/lib/mysql/private)
	for program in "$root"/usr/lib/postgresql/*/bin/* "$root"/usr/bin/{mariadb,mysql,my_,resolveip}* "$root"/usr/sbin/{mariadbd,mysqld}; do
		is_program "$program" || continue
		patchelf --set-interpreter "$loader" --force-rpath --set-rpath "${libraries%:}" "$program"
	done
}

fetch() {
	local suite=$1 tree=$cache/$1 want
	[[ -n ${packages[$suite]:-} ]] || fail "no versions are known of Debian's suite $suite (known: ${!packages[*]})"
	want="$layout ${packages[$suite]} $tree"
	[[ $(cat "$tree/stamp" 2>/dev/null) != "$want" ]] || return 0
	echo "fetching ${packages[$suite]} of Debian $suite"
	rm -rf "$tree" "$tree.new"
	mkdir -p "$tree.new"
	download "$suite" "$tree.new/apt"
	unpack "$tree.new/apt" "$tree.new"
	rm -rf "$tree.new/apt"
	settle "$tree" "$tree.new"
	echo "$want" >"$tree.new/stamp"
	mv "$tree.new" "$tree"
}

for tool in apt-get dpkg-deb patchelf; do
	command -v "$tool" >/dev/null || fail "$tool is missing: scripts/install-packages.sh matrix installs it on Debian and Ubuntu"
done
[[ $# -gt 0 ]] || set -- "${!packages[@]}"
for suite in "$@"; do
	fetch "$suite"
done
