#!/bin/sh
# The machine belongs to one job: `pip install` may change what the distribution installed.
set -eu
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
