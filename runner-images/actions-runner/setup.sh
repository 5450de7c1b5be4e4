#!/bin/sh
# Puts GitHub's runner where the profile's `runner = { path = … }` looks for it, for the account that runs jobs.
set -eu
directory=${RUNNER_DIRECTORY:-/opt/actions-runner}
owner=${RUNNER_OWNER-runner:runner}
set -- "${DAYFLY_FILES:?}"/*.tar.gz
if [ $# -ne 1 ] || [ ! -f "$1" ]; then
    echo "the recipe must name one archive of the runner in [[setup.files]]" >&2
    exit 1
fi
mkdir -p "$directory"
tar -C "$directory" --no-same-owner -xzf "$1"
if [ ! -x "$directory/run.sh" ]; then
    echo "there is no run.sh at the top of $(basename "$1")" >&2
    exit 1
fi
# It writes its logs and work there.
[ -z "$owner" ] || chown -R "$owner" "$directory"
