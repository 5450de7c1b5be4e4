#!/bin/sh
# Which packages a build is for, as a JSON list.
for package in */package.json; do dirname "$package"; done | jq --raw-input --slurp --compact-output 'split("\n") | map(select(. != ""))'
