#!/usr/bin/env bash
# Runs every fuzz target of the tree, one after the other: fuzz.sh TIME-FOR-EACH
set -euo pipefail

cd "$(dirname "$0")/.."
readonly fuzztime=${1:?usage: fuzz.sh TIME, such as 1m}

targets=$({ git grep --untracked -oE '^func Fuzz[A-Za-z0-9_]*' -- '*_test.go' || true; } | sed 's/func //' | sort)
if [[ -z $targets ]]; then
	echo "fuzz: there are no fuzz targets" >&2
	exit 1
fi
while IFS=: read -r file name; do
	echo "fuzz: $name in $(dirname "$file") for $fuzztime"
	go test -run='^$' -fuzz="^$name\$" -fuzztime="$fuzztime" "./$(dirname "$file")" </dev/null
done <<<"$targets"
