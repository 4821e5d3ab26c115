#!/bin/sh
# Prints what happens to all executions, with their log lines, as one JSON object a
# line: events.sh [http://127.0.0.1:8080]. The token comes from the environment, and
# goes to curl where other users of the machine do not see it.
set -eu
: "${DATAGUARDIAN_TOKEN:?set it to an API token}"
printf 'header = "Authorization: Bearer %s"\n' "$DATAGUARDIAN_TOKEN" |
	curl --no-buffer --silent --show-error --fail-with-body --config - "${1:-http://127.0.0.1:8080}/api/events?include_logs=true"
