//! Which job runs when: a pure plan, and what carries it out.

pub mod plan;
