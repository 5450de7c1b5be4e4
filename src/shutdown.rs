//! How the service ends: it stops starting jobs, lets those that run end within a limit, then ends everything.
//!
//! ```text
//!  serving ── SIGTERM ──► draining ── all jobs ended, the limit, or a second signal ──► stopping ──► gone
//! ```
//! While it drains, webhooks are stored and answered as ever, logs can be read and jobs cancelled. What the two stages mean
//! for a part is in the part's own module.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The requests to end; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// No job starts any more.
    pub drain: CancellationToken,
    /// Whoever asked does not want to wait: jobs are not waited for, nor a slow forge.
    pub hurry: CancellationToken,
    /// No job runs any more: they have ended or are back in the queue.
    pub drained: CancellationToken,
}

impl Shutdown {
    /// Takes SIGTERM and SIGINT, which mean the same: the first asks to drain, the second to hurry.
    ///
    /// # Errors
    /// When the process cannot be told of signals.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::default();
        let signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
        tokio::spawn(take(signals, shutdown.clone()));
        Ok(shutdown)
    }
}

async fn take([mut terminate, mut interrupt]: [Signal; 2], shutdown: Shutdown) {
    for request in [&shutdown.drain, &shutdown.hurry] {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        request.cancel();
    }
}
