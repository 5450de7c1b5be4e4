#!/bin/sh
# Plays GitHub's runner: becomes the runner of its configuration, once, does one job, and says what the real one says.
set -eu
if [ $# -ne 2 ] || [ "$1" != --jitconfig ]; then
    echo "usage: run.sh --jitconfig CONFIG" >&2
    exit 2
fi
config=$(printf %s "$2" | base64 -d)
part() { printf %s "$config" | jq -er ".[\"$1\"]" | base64 -d; }
server=$(part .runner | jq -er .ServerUrl)
token=$(part .credentials | jq -er .Data.token)
say() { echo "$(date -u '+%Y-%m-%d %H:%M:%SZ'): $1"; }
call() { curl -sS --fail-with-body --proxy "$http_proxy" --noproxy '' -H "Authorization: Bearer $token" "$@"; }

# What must not be seen in any log.
echo "the configuration is $2, the token is $token"
case ${FAKE_RUNNER:-} in
    dies) exit 3 ;;
    hangs) sleep 1000000 ;;
    old) echo "An error occurred: Runner version v2.1.0 is deprecated and cannot receive messages."; exit 1 ;;
esac
call -X POST -d '' "$server/_runner/sessions" || { echo "Failed to create a session."; exit 1; }
echo "√ Connected to GitHub"
echo
echo "Current runner version: '2.999.0'"
say "Listening for Jobs"
message=
while [ -z "$message" ]; do message=$(call "$server/_runner/message") || { echo; exit 1; }; done
name=$(printf %s "$message" | jq -er .name)
say "Running job: $name"
if printf %s "$message" | jq -er .script | sh -eu > "$HOME/job.log" 2>&1; then result=Succeeded; else result=Failed; fi
cat "$HOME/job.log"
call -d "{\"result\": \"$result\"}" -H 'content-type: application/json' "$server/_runner/complete"
say "Job $name completed with result: $result"
