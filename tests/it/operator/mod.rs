//! The commands that ask a running service, and the program's own manual. No VM runs here; `service::operator` has those.
#![allow(clippy::unwrap_used)]

mod asking;
mod manual;
mod refusing;
