#!/bin/sh
# Tests of greet, as TAP on standard output: test.sh PROGRAM
program=${1:?which program?}
failed=0
number=0
check() {
  number=$((number + 1))
  if [ "$2" = "$3" ]; then
    echo "ok $number - $1"
  else
    failed=1
    printf 'not ok %s - %s\n  ---\n  message: "expected %s, got %s"\n  ...\n' "$number" "$1" "$3" "$2"
  fi
}
echo "TAP version 13"
echo "1..3"
check "greets the world" "$("$program")" "Hello, world!"
check "greets by name" "$("$program" Ada)" "Hello, Ada!"
check "tells its version" "$("$program" --version | cut -d' ' -f1)" "greet"
exit "$failed"
