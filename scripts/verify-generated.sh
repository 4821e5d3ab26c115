#!/usr/bin/env bash
# Fails when a generated file differs from what its source gives today.
#
# Generates in a copy of the tree, so the checkout stays as it is whatever comes out.
set -euo pipefail

cd "$(dirname "$0")/.."
readonly generated=(gen docs/openapi.json internal/store/db third_party)

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT

# What git knows plus what is new and not ignored: a dirty checkout can be checked
# before it is committed. Files that were deleted but not committed are left out.
git ls-files --cached --others --exclude-standard -z |
	while IFS= read -r -d '' file; do
		[[ ! -e $file ]] || printf '%s\0' "$file"
	done |
	tar --null --files-from=- -cf - |
	tar -xf - -C "$copy"

# Output that no source makes any more must show up as a difference too.
rm -rf "$copy/internal/store/db"
find "$copy/third_party" -name '*.proto' -delete
make --no-print-directory -C "$copy" third-party generate

stale=0
for path in "${generated[@]}"; do
	diff -ruN "$path" "$copy/$path" || stale=1
done
if [[ $stale -ne 0 ]]; then
	echo "verify: generated files are not up to date (differences above): run \"make generate third-party\" and commit the result" >&2
	exit 1
fi
