#!/usr/bin/env bash
# run-tests.sh PACKAGES FLAGS...: runs the tests of the packages with flags of "go test".
#
# With RERUNS=n a test that fails is run again, alone, up to n times before it counts;
# more than five failures count at once. A panic takes the rest of its package's tests
# along, so every package that failed is run once more then, whole, and has to pass. Where
# more than two packages failed, that of the panic among them, or one ran out of time, it
# was no accident. What is run again is named, and at the end once more what had panicked.
#
# A data race, and what the runtime calls a fatal error (maps written at once, a deadlock),
# is never an accident: neither is run again, and either fails the run. So does a package
# that somebody ended from outside, or itself.
set -euo pipefail

packages=$1
shift
events=$(mktemp)
trap 'rm -f "$events"' EXIT

sum() { $TESTSUM --format pkgname --hide-summary=skipped "$@"; }
said() { grep -qE '"Output":"('"$1"')' "$events"; }
packages_of() { sed -nE 's/.*"Package":"([^"]+)".*/\1/p' | sort -u; }

status=0
sum --rerun-fails="$RERUNS" --rerun-fails-max-failures=5 --rerun-fails-abort-on-data-race \
	--jsonfile "$events" --packages="$packages" -- "$@" || status=$?
if said 'fatal error: |WARNING: DATA RACE'; then
	# A test that the runtime ended may have passed when it was run again; the rest of
	# its package was not run.
	echo "tests: a data race or a fatal error of the runtime, which counts whatever was run again"
	exit $((status == 0 ? 1 : status))
fi
mapfile -t failed < <(grep '"Action":"fail"' "$events" | grep -v '"Test":' | packages_of)
mapfile -t broken < <(printf '%s\n' "${failed[@]}" | grep -vxF -f <(grep -F '"Output":"FAIL\n"' "$events" | packages_of; echo) || true)
if [[ $status -eq 0 && ${#broken[@]} -gt 0 ]]; then
	echo "tests: these ended before all their tests had run, which counts whatever was run again: ${broken[*]}"
	exit 1
fi
if [[ $status -eq 0 || $RERUNS -eq 0 ]] || ! said 'panic: ' || said 'panic: test timed out'; then
	exit "$status"
fi
if [[ ${#failed[@]} -eq 0 || ${#failed[@]} -gt 2 ]]; then
	exit "$status"
fi
mapfile -t panicked < <(grep '"Output":"panic: ' "$events" | packages_of)
echo
echo "tests: after a panic these are run once more, whole: ${failed[*]}"
status=0
sum --packages="${failed[*]}" -- "$@" || status=$?
echo "tests: had panicked in the first run: ${panicked[*]}"
exit "$status"
