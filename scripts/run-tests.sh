#!/usr/bin/env bash
# run-tests.sh PACKAGES FLAGS...: runs the tests of the packages with flags of "go test".
#
# With RERUNS=n a test that fails is run again, alone, up to n times before it counts;
# more than five failures count at once. A crash takes the rest of its package's tests
# along, so such a package is run once more, whole, and must pass as if it had been the
# first time. Where more than two packages fail beside a crash, or one ran out of time,
# it was no accident. What is run again is named either way.
set -euo pipefail

packages=$1
shift
events=$(mktemp)
trap 'rm -f "$events"' EXIT

sum() { $TESTSUM --format pkgname --hide-summary=skipped "$@"; }
said() { grep -qE '"Output":"('"$1"')' "$events"; }

status=0
sum --rerun-fails="$RERUNS" --rerun-fails-max-failures=5 --jsonfile "$events" --packages="$packages" -- "$@" || status=$?
if [[ $status -eq 0 || $RERUNS -eq 0 ]] || ! said 'panic: |fatal error: ' || said 'panic: test timed out'; then
	exit "$status"
fi
mapfile -t failed < <(grep '"Action":"fail"' "$events" | grep -v '"Test":' | sed -E 's/.*"Package":"([^"]+)".*/\1/' | sort -u)
if [[ ${#failed[@]} -eq 0 || ${#failed[@]} -gt 2 ]]; then
	exit "$status"
fi
echo
echo "tests: after a crash these are run once more, whole: ${failed[*]}"
sum --packages="${failed[*]}" -- "$@"
