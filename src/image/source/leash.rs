//! Work on what strangers wrote, on a thread of its own: it ends when it takes too long, and with whoever waits for it. Nothing
//! writes into a directory any more that its owner goes on to remove.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::image::ImageError;

/// How long work may take to see that nobody waits for it: it reads a little at a time.
const GRACE: Duration = Duration::from_secs(10);

/// What work reads by.
#[derive(Debug, Clone)]
pub(super) struct Leash {
    is_let_go: Arc<AtomicBool>,
    begun: Instant,
    limit: Duration,
}

impl Leash {
    pub(super) fn new(limit: Duration) -> Self {
        Self { is_let_go: Arc::default(), begun: Instant::now(), limit }
    }

    /// A reader that fails once the work has to end.
    pub(super) fn hold<R: Read>(&self, inner: R) -> Held<'_, R> {
        Held { leash: self, inner }
    }

    fn require(&self) -> io::Result<()> {
        if self.is_let_go.load(Ordering::Relaxed) {
            return Err(io::Error::other("nobody waits for it any more"));
        }
        if self.begun.elapsed() >= self.limit {
            let limit = self.limit.as_secs();
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("it takes longer than {limit} s")));
        }
        Ok(())
    }
}

/// A reader on a leash.
#[derive(Debug)]
pub(super) struct Held<'l, R> {
    leash: &'l Leash,
    inner: R,
}

impl<R: Read> Read for Held<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.leash.require()?;
        self.inner.read(buffer)
    }
}

/// Who waits for the work. Dropped, the work ends, and only then the drop.
struct Waits {
    leash: Leash,
    task: tokio::task::AbortHandle,
    /// Closed when the work has ended.
    ended: mpsc::Receiver<()>,
}

impl Drop for Waits {
    fn drop(&mut self) {
        // If it has not begun, it never does.
        self.task.abort();
        self.leash.is_let_go.store(true, Ordering::Relaxed);
        self.ended.recv_timeout(GRACE).ok();
    }
}

/// Does work that blocks its thread and reads by its leash, for at most `limit`. `what` is it, for people: `unpacking X`.
pub(super) async fn work<T: Send + 'static>(
    what: &str, limit: Duration, work: impl FnOnce(&Leash) -> T + Send + 'static,
) -> Result<T, ImageError> {
    let leash = Leash::new(limit);
    let (alive, ended) = mpsc::channel();
    let runtime = tokio::runtime::Handle::current();
    let task = tokio::task::spawn_blocking({
        let leash = leash.clone();
        move || {
            let _alive: mpsc::Sender<()> = alive;
            let _context = runtime.enter();
            work(&leash)
        }
    });
    let _waits = Waits { leash, task: task.abort_handle(), ended };
    task.await.map_err(|error| ImageError::Unusable(format!("{what} was interrupted: {error}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_ends_when_nobody_waits_for_it_and_when_it_takes_too_long() {
        let has_ended = Arc::new(AtomicBool::new(false));
        let (begins, begun) = tokio::sync::oneshot::channel();
        let endless = {
            let has_ended = Arc::clone(&has_ended);
            work("reading", Duration::from_secs(600), move |leash| {
                begins.send(()).unwrap();
                let read = io::copy(&mut leash.hold(io::repeat(0)), &mut io::sink());
                has_ended.store(true, Ordering::Relaxed);
                read
            })
        };
        tokio::select! {
            _ = endless => panic!("it has no end"),
            begun = begun => begun.unwrap(),
        }
        assert!(has_ended.load(Ordering::Relaxed), "it outlived who waited for it");

        let slow = |leash: &Leash| io::copy(&mut leash.hold(io::repeat(0)), &mut io::sink());
        let error = work("reading", Duration::from_millis(1), slow).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(work("reading", Duration::from_secs(600), |_| 7).await.unwrap(), 7);
    }
}
