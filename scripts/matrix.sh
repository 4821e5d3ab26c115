#!/usr/bin/env bash
# Runs the engines' tests against the versions of the databases that
# fetch-database-versions.sh has put into .cache/matrix, and ends with a table:
#
#   matrix.sh               every row
#   matrix.sh PATTERN       the rows whose names match an extended regular expression
#
# A row is a server and the client tools that DataGuardian finds. The output of a row is
# in .cache/matrix/NAME.log. It takes about ten minutes a row on two cores, which is why
# "make test" does not do it.
set -euo pipefail

cd "$(dirname "$0")/.."
readonly pattern=${1:-.}
cache=$(readlink -f .cache/matrix)
readonly cache
readonly pg13=$cache/bullseye/usr/lib/postgresql/13/bin
readonly pg17=$cache/trixie/usr/lib/postgresql/17/bin
readonly pg18=$cache/sid/usr/lib/postgresql/18/bin
readonly system_pg=$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -n 1)

# What a server that is newer than the tools is to do: refuse.
readonly refusal='^TestAServerNewerThanTheToolsIsRefusedBeforeTheStart$'

failed=0
table=()

note() { table+=("$(printf '%-34s %-7s %s' "$1" "$2" "$3")"); }

# row NAME PACKAGE TESTS VARIABLE=VALUE... runs the tests of a row.
row() {
	local name=$1 package=$2 tests=$3 log=$cache/$1.log
	shift 3
	[[ $name =~ $pattern ]] || return 0
	echo "$name"
	local passed
	if (cd "internal/engine/$package" && env "$@" "$cache/$package.test" -test.v -test.timeout=60m -test.run "$tests" >"$log" 2>&1); then
		passed=$(grep -c '^--- PASS' "$log" || true)
		if ((passed > 0)); then
			note "$name" pass "$passed tests"
			return
		fi
		failed=1
		note "$name" FAIL "no test was run; see $log"
		return
	fi
	failed=1
	note "$name" FAIL "$(grep -c '^--- FAIL' "$log" || true) tests failed; see $log"
}

go test -c -o "$cache/postgres.test" ./internal/engine/postgres
go test -c -o "$cache/mysql.test" ./internal/engine/mysql

row postgres-13-own-tools postgres . TESTKIT_POSTGRES="$pg13" TESTKIT_POSTGRES_CLIENTS="$pg13"
row postgres-17-own-tools postgres . TESTKIT_POSTGRES="$pg17" TESTKIT_POSTGRES_CLIENTS="$pg17"
row postgres-18-own-tools postgres . TESTKIT_POSTGRES="$pg18" TESTKIT_POSTGRES_CLIENTS="$pg18"
row postgres-13-system-tools postgres . TESTKIT_POSTGRES="$pg13" TESTKIT_POSTGRES_CLIENTS="$system_pg"
row postgres-13-newest-tools postgres . TESTKIT_POSTGRES="$pg13" TESTKIT_POSTGRES_CLIENTS="$pg18"
row postgres-17-newest-tools postgres . TESTKIT_POSTGRES="$pg17" TESTKIT_POSTGRES_CLIENTS="$pg18"
row postgres-17-older-tools postgres "$refusal" TESTKIT_POSTGRES="$pg17" TESTKIT_POSTGRES_CLIENTS="$pg13"
row postgres-18-older-tools postgres "$refusal" TESTKIT_POSTGRES="$pg18" TESTKIT_POSTGRES_CLIENTS="$pg17"

row mariadb-10.5-own-tools mysql . TESTKIT_MYSQL="$cache/bullseye/usr" TESTKIT_MYSQL_CLIENTS="$cache/bullseye/usr/bin"
row mariadb-10.5-system-tools mysql . TESTKIT_MYSQL="$cache/bullseye/usr" TESTKIT_MYSQL_CLIENTS=/usr/bin
row mariadb-11.8-own-tools mysql . TESTKIT_MYSQL="$cache/trixie/usr" TESTKIT_MYSQL_CLIENTS="$cache/trixie/usr/bin"
row mariadb-11.8-system-tools mysql . TESTKIT_MYSQL="$cache/trixie/usr" TESTKIT_MYSQL_CLIENTS=/usr/bin
row mysql-9.7-own-tools mysql . TESTKIT_MYSQL="$cache/sid/usr" TESTKIT_MYSQL_CLIENTS="$cache/sid/usr/bin"

if ((${#table[@]} == 0)); then
	echo "matrix.sh: no row's name matches $pattern" >&2
	exit 1
fi
echo
printf '%s\n' "${table[@]}"
exit "$failed"
