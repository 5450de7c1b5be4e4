#!/bin/sh
# What runs from here on runs in every job's machine, and waits there.
set -eu
docker --version
setsid /usr/local/lib/dayfly/docker-on-demand </dev/null >/var/log/dockerd.log 2>&1 &
while ! test -S /run/docker.sock; do
	sleep 0.05
done
