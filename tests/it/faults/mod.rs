//! What goes wrong around a job: the forge, the service, the host. A job runs once per attempt and gets one outcome.
#![allow(clippy::unwrap_used)]

mod disk;
mod forge_calls;
mod restarts;
