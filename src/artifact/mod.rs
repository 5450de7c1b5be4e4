//! Files that a guest sends back to the host.
//!
//! The guest sends a tar stream, made by its own `tar`; the host decodes it here and writes plain files. The guest is
//! hostile, so what it may do is decided on this side:
//!
//! - The caller chooses the places: an entry must match a path or pattern that was asked for ([`name`]), whatever the guest
//!   says it is. A guest that is asked for `dist` writes below `dist`, and nowhere else.
//! - Only regular files and directories are made. Links, devices and pipes are passed over and reported. No link of the host
//!   is followed, and a file appears whole, in the place of what was there ([`crate::host::beneath`]).
//! - Entries, bytes, names and time are bounded.
//!
//! A stream, rather than a request of the agent for each file: a directory of ten thousand files is one exchange, and the
//! agent, which is baked into every snapshot, stays as small as it is. The decoder ([`tar`]) is our own, because it has to
//! keep limits on what announces itself (a name of a gigabyte, say) before it is believed; it takes the few kinds of entries
//! that are needed here and refuses the rest.

pub mod name;
pub mod receive;
pub mod tar;
