#!/bin/sh
# Starts what jobs start first, so that its pages are in the snapshot.
set -eu
cargo --version
rustc --version
