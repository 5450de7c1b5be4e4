#!/bin/sh
# A job that shows that the image works: a crate is made, checked and tested, without a network.
set -eu
cargo init --quiet --lib --name answer answer
cd answer
echo '#[test] fn answer() { assert_eq!(6 * 7, 42); }' > src/lib.rs
cargo fmt
cargo test --offline --quiet
echo "$(rustc --version) works"
