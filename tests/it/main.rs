//! Tests of Dayfly from outside, against a forge on loopback.

mod documents;
mod forge;
mod local_forge_rules;

#[path = "../../examples/local-forge/forge/mod.rs"]
mod local_forge;
