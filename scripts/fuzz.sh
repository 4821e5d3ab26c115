#!/usr/bin/env bash
# Runs fuzz targets, one after the other: fuzz.sh TIME-FOR-EACH [NAME...]; without names all of the tree.
# FUZZ_PARALLEL is how many inputs are tried at once (default: a core each). An input that fails is kept below testdata
# of its package, where every later test run tries it.
set -euo pipefail

cd "$(dirname "$0")/.."
readonly fuzztime=${1:?usage: fuzz.sh TIME [NAME...], such as 1m}
shift

targets=$({ git grep --untracked -oE '^func Fuzz[A-Za-z0-9_]*' -- '*_test.go' || true; } | sed 's/func //' | sort)
if [[ $# -gt 0 ]]; then
	targets=$(grep -E ":($(IFS='|' && echo "$*"))\$" <<<"$targets" || true)
fi
if [[ -z $targets ]]; then
	echo "fuzz: there are no such targets" >&2
	exit 1
fi

binaries=$(mktemp -d)
trap 'rm -rf "$binaries"' EXIT
cache=$(go env GOCACHE)/fuzz

failed=()
while IFS=: read -r file name; do
	package=$(dirname "$file")
	binary=$binaries/${package//\//_}.test
	if [[ ! -e $binary ]]; then # every package it needs is compiled anew for fuzzing: once for all targets of a package
		echo "fuzz: building $package"
		go test -c -vet=off -fuzz=. -o "$binary" "./$package"
	fi
	echo "fuzz: $name in $package for $fuzztime"
	# Making one interesting input smaller may take a minute by default, which would be all the time there is.
	(cd "$package" && "$binary" -test.run='^$' -test.fuzz="^$name\$" -test.fuzztime="$fuzztime" -test.fuzzminimizetime=100x \
		-test.fuzzcachedir="$cache/$package" ${FUZZ_PARALLEL:+-test.parallel="$FUZZ_PARALLEL"}) </dev/null || failed+=("$name in $package")
done <<<"$targets"

if [[ ${#failed[@]} -gt 0 ]]; then
	printf 'fuzz: FAILED: %s\n' "${failed[@]}" >&2
	exit 1
fi
