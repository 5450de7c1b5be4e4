//! What host and guest say to each other over one byte stream: bounded, versioned and without IO.
//!
//! The stream may be a virtio-serial port: its two ends come and go independently, and bytes of an earlier conversation may
//! still sit in it. So a conversation starts with an *attach*: the host sends a frame with a fresh nonce, the agent drops
//! everything older and answers with the same nonce. Until then both sides throw bytes away.
//!
//! - [`card`]: what host and guest agree on about a network card.
//! - [`frame`]: bytes ↔ frames, with resynchronisation.
//! - [`session`]: frames ↔ streams with credit-based flow control. A peer that breaks a rule ends its session.
//! - [`message`]: what the host asks of the agent and what it answers.
//! - [`options`]: what the host says before there is a stream.
//!
//! The guest is hostile. Nothing here allocates more than a constant for a peer that lies about lengths, and no value from
//! the peer is used as an index without a check.

pub mod card;
pub mod frame;
pub mod message;
pub mod options;
pub mod session;

/// Raised on every incompatible change. It is part of a snapshot's key, so host and agent of one VM always agree.
pub const VERSION: u16 = 4;

/// Name of the virtio-serial port for control: requests, results, output.
pub const CONTROL_PORT: &str = "dayfly.control";

/// Name of the virtio-serial port for bulk data (tunnels), so that a clone never delays a cancel.
pub const BULK_PORT: &str = "dayfly.bulk";

/// The same two where the guest has a vsock instead of ports: the agent listens there.
pub const CONTROL_VSOCK_PORT: u32 = 1024;
pub const BULK_VSOCK_PORT: u32 = 1025;
