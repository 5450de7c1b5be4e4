//! Long work that several wait for: it goes on while anybody does, and is dropped with the last of them.
//!
//! Whoever gives up waiting must not take the work from the others, and work that nobody waits for must not hold a lock and a
//! VM for the minutes that it takes.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::image::{Logged, Progress};

/// What is said of the work and not told yet. What goes beyond is left out: these are signs of life.
const MAX_UNTOLD: usize = 256;

/// Work under way. Waiters hold it; dropped by the last one, the work is, too.
#[derive(Debug)]
pub(super) struct Shared<T> {
    outcome: watch::Receiver<Option<T>>,
    work: Option<JoinHandle<()>>,
    abandoned: Abandoned,
}

impl<T: Clone + Send + Sync + 'static> Shared<T> {
    /// Begins the work. What is left of it when everybody has gone, `abandoned` waits for.
    pub(super) fn begin(work: impl Future<Output = T> + Send + 'static, abandoned: &Abandoned) -> Self {
        let (done, outcome) = watch::channel(None);
        let work = tokio::spawn(async move {
            let made = work.await;
            done.send_replace(Some(made));
        });
        Self { outcome, work: Some(work), abandoned: abandoned.clone() }
    }

    /// Waits for the work's outcome; `None` if the work broke off by a fault of its own.
    pub(super) async fn outcome(&self) -> Option<T> {
        self.outcome.clone().wait_for(Option::is_some).await.ok().and_then(|made| made.clone())
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            work.abort();
            self.abandoned.keep(work);
        }
    }
}

/// Work that was given up and may not have noticed yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Abandoned(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl Abandoned {
    fn keep(&self, work: JoinHandle<()>) {
        let mut works = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        works.retain(|work| !work.is_finished());
        if !work.is_finished() {
            works.push(work);
        }
    }

    /// Waits until everything that was given up is dropped, so that nothing holds what it had.
    pub(super) async fn ended(&self) {
        let works = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for work in works {
            // That it was cancelled is what is waited for.
            drop(work.await);
        }
    }
}

/// What work says of its progress.
#[derive(Debug)]
pub(super) enum Said {
    Step(String),
    Detail(String),
}

impl Said {
    pub(super) fn tell(&self, progress: &dyn Progress) {
        match self {
            Self::Step(text) => progress.step(text),
            Self::Detail(text) => progress.detail(text),
        }
    }
}

/// Progress for whoever began the work, and for the log when they have gone.
#[derive(Debug)]
pub(super) struct Relay(mpsc::Sender<Said>);

impl Relay {
    /// A relay, and where what it was told arrives.
    pub(super) fn new() -> (Self, mpsc::Receiver<Said>) {
        let (to, told) = mpsc::channel(MAX_UNTOLD);
        (Self(to), told)
    }

    fn pass(&self, said: Said) {
        if let Err(mpsc::error::TrySendError::Closed(said)) = self.0.try_send(said) {
            said.tell(&Logged);
        }
    }
}

impl Progress for Relay {
    fn step(&self, text: &str) {
        self.pass(Said::Step(text.to_owned()));
    }

    fn detail(&self, text: &str) {
        self.pass(Said::Detail(text.to_owned()));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    /// Counts itself while it lives.
    struct Counted(Arc<AtomicUsize>);

    impl Counted {
        fn new(count: &Arc<AtomicUsize>) -> Self {
            count.fetch_add(1, Ordering::SeqCst);
            Self(Arc::clone(count))
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn work_goes_on_for_those_who_stay_and_ends_with_the_last() {
        let (alive, go, abandoned) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()), Abandoned::default());
        let begin = || {
            let (counted, go) = (Counted::new(&alive), Arc::clone(&go));
            let work = async move {
                let _counted = counted;
                go.notified().await;
                7
            };
            Arc::new(Shared::begin(work, &abandoned))
        };
        let first = begin();
        let second = Arc::clone(&first);
        drop(first);
        go.notify_one();
        assert_eq!(second.outcome().await, Some(7));
        assert_eq!(second.outcome().await, Some(7), "who comes late is told as well");
        drop(second);
        drop(begin());
        abandoned.ended().await;
        assert_eq!(alive.load(Ordering::SeqCst), 0, "nobody waits, and the work goes on");
    }

    #[tokio::test]
    async fn work_that_breaks_off_keeps_nobody_waiting() {
        let shared = Shared::<()>::begin(async { panic!("on purpose") }, &Abandoned::default());
        assert_eq!(shared.outcome().await, None);
    }
}
