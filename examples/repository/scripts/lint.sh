#!/bin/sh
# Complains about long lines, one complaint per line as compilers have it: FILE:LINE:COLUMN: warning: TEXT
awk 'length($0) > 100 { printf "%s:%d:101: warning: line of %d characters\n", FILENAME, FNR, length($0) }' "$@"
