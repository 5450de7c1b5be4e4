#!/bin/sh
# Greets somebody: greet [NAME]
case "${1:-}" in
  --version) echo "greet @VERSION@" ;;
  *) echo "Hello, ${1:-world}!" ;;
esac
