#!/usr/bin/env bash
# Looks for known vulnerabilities in what we link, and fails when there are any.
# It asks the Go vulnerability database (vuln.go.dev, or GOVULNDB). Where that cannot
# be reached nothing was checked: this says so, and ends well unless --required is given.
set -euo pipefail
cd "$(dirname "$0")/.."

required=false
[[ ${1:-} == --required ]] && required=true

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
timeout 10m go tool -modfile=tools/lint/go.mod govulncheck ./... >"$log" 2>&1 || status=$?
if [[ $status -eq 124 ]]; then
	echo "govulncheck: fetching vulnerabilities: timeout: no answer for ten minutes" >>"$log"
fi
if grep -q '^govulncheck: fetching vulnerabilities: .*\(dial\|lookup\|timeout\|refused\|no such host\)' "$log"; then
	echo "vulnerabilities: NOT CHECKED, the vulnerability database does not answer:"
	grep '^govulncheck: fetching' "$log"
	echo "vulnerabilities: run 'make vulnerabilities' where it can be reached"
	if $required; then exit 1; fi
	exit 0
fi
cat "$log"
exit "$status"
