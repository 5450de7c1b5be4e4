//! Being interrupted: the first time the jobs end in an orderly way, the second time everything does at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;

/// Added to a signal's number, as shells do.
const EXIT_SIGNAL_BASE: u8 = 128;

#[derive(Debug)]
pub(super) struct Interrupts {
    first: CancellationToken,
    second: CancellationToken,
    code: Arc<AtomicU8>,
}

impl Interrupts {
    /// Takes `SIGINT` and `SIGTERM` from now on.
    pub(super) fn listen() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (first, second) = (CancellationToken::new(), CancellationToken::new());
        let code = Arc::new(AtomicU8::new(EXIT_SIGNAL_BASE));
        let (told, told_code) = ([first.clone(), second.clone()], Arc::clone(&code));
        tokio::spawn(async move {
            for token in told {
                let signal = tokio::select! {
                    _ = terminate.recv() => SignalKind::terminate(),
                    _ = interrupt.recv() => SignalKind::interrupt(),
                };
                let number = u8::try_from(signal.as_raw_value()).unwrap_or(0);
                told_code.store(EXIT_SIGNAL_BASE.saturating_add(number), Ordering::Relaxed);
                token.cancel();
            }
        });
        Ok(Self { first, second, code })
    }

    /// Cancelled at the first signal.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.first
    }

    pub(super) async fn first(&self) {
        self.first.cancelled().await;
    }

    /// Does the work, unless the first signal comes before its end: then it is dropped, with what it was making in `engine`,
    /// and there is no outcome.
    pub(super) async fn unless_first<T>(&self, engine: &Engine, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => return Some(done),
            () = self.first() => {}
        }
        if let Err(error) = engine.tidy_up().await {
            eprintln!("warning: what was begun could not be removed: {error}");
        }
        None
    }

    pub(super) async fn second(&self) {
        self.second.cancelled().await;
    }

    pub(super) fn came(&self) -> bool {
        self.first.is_cancelled()
    }

    /// The exit code of a process that the last signal ended.
    pub(super) fn code(&self) -> u8 {
        self.code.load(Ordering::Relaxed)
    }
}
