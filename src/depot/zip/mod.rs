//! Zip archives, as far as artifacts go: what a guest sends becomes one, and one becomes what a guest is sent.
//!
//! [`Writer`] makes archives that every reader takes, streaming ones included: names are UTF-8, contents deflated, lengths behind
//! the contents. [`Reader`] reads what some client wrote, so nothing in an archive is believed: entries, names and sizes are
//! bounded, and what does not fit together is an error.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::{Entry, Limits, Reader, ZipError};
pub use writer::Writer;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;

/// The extra field with lengths of 64 bits.
const EXTRA_64: u16 = 1;

/// The extra field with the time, in seconds since the epoch.
const EXTRA_TIME: u16 = 0x5455;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// In the place of a number that needs 64 bits.
const IN_EXTRA: u32 = u32::MAX;
