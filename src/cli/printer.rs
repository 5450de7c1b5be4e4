//! What VMs print, written by a thread of its own. A reader that stalls blocks whoever writes for it; on a thread of the
//! runtime that would keep time limits and signals from acting.
//!
//! What waits to be written is bounded: whoever prints more waits, in a way that can be given up.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Semaphore;

/// Bytes that may wait to be written.
const ROOM: u32 = 1 << 20;

/// How long a reader may take for what is left when the work was interrupted or ran out of time.
pub(super) const LAST_WAIT: Duration = Duration::from_secs(1);

/// Where something is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Stdout,
    Stderr,
}

#[derive(Debug)]
struct Piece {
    to: To,
    bytes: Vec<u8>,
    /// The part of the room that is free again once it is written.
    room: u32,
}

/// Hands bytes to the thread that writes them. It ends with the last clone, or at the first failure.
#[derive(Debug, Clone)]
pub(super) struct Printer {
    pieces: Sender<Piece>,
    room: Arc<Semaphore>,
    failure: Arc<OnceLock<io::Error>>,
}

impl Printer {
    /// Writes to this process's standard output and error.
    pub(super) fn start() -> io::Result<Self> {
        Self::with(|to, bytes| match to {
            To::Stdout => write_out(io::stdout(), bytes),
            To::Stderr => write_out(io::stderr(), bytes),
        })
    }

    fn with(mut write: impl FnMut(To, &[u8]) -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (pieces, waiting): (_, Receiver<Piece>) = channel();
        let (room, failure) = (Arc::new(Semaphore::new(ROOM as usize)), Arc::new(OnceLock::new()));
        let printer = Self { pieces, room: Arc::clone(&room), failure: Arc::clone(&failure) };
        std::thread::Builder::new().name("printer".into()).spawn(move || {
            for Piece { to, bytes, room: taken } in waiting {
                if let Err(error) = write(to, &bytes) {
                    failure.get_or_init(|| error);
                    // Wakes whoever waits for room.
                    room.close();
                    return;
                }
                room.add_permits(taken as usize);
            }
        })?;
        Ok(printer)
    }

    /// Prints these bytes once there is room for them; fails if something before them could not be written. Dropping the
    /// future before it is done prints nothing.
    pub(super) async fn print(&self, to: To, bytes: Vec<u8>) -> io::Result<()> {
        let room = u32::try_from(bytes.len()).unwrap_or(ROOM).min(ROOM);
        self.room.acquire_many(room).await.map_err(|_| self.failure())?.forget();
        self.pieces.send(Piece { to, bytes, room }).map_err(|_| self.failure())
    }

    /// The same without waiting, for the few words that must not wait. A failure shows elsewhere.
    pub(super) fn print_now(&self, to: To, bytes: Vec<u8>) {
        let room = self.room.forget_permits(bytes.len().min(ROOM as usize)) as u32;
        drop(self.pieces.send(Piece { to, bytes, room }));
    }

    /// Waits until everything is written that was printed with [`Printer::print`] before.
    pub(super) async fn flush(&self) -> io::Result<()> {
        self.room.acquire_many(ROOM).await.map(drop).map_err(|_| self.failure())
    }

    /// The same, but for at most [`LAST_WAIT`] once `hurry` is over.
    pub(super) async fn flush_before(&self, hurry: impl Future<Output = ()>) -> io::Result<()> {
        tokio::select! {
            biased;
            flushed = self.flush() => flushed,
            () = last_wait(hurry) => Ok(()),
        }
    }

    fn failure(&self) -> io::Error {
        match self.failure.get() {
            Some(error) => io::Error::new(error.kind(), error.to_string()),
            None => io::ErrorKind::BrokenPipe.into(),
        }
    }
}

/// Ends [`LAST_WAIT`] after `hurry`.
pub(super) async fn last_wait(hurry: impl Future<Output = ()>) {
    hurry.await;
    tokio::time::sleep(LAST_WAIT).await;
}

fn write_out(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::Mutex;

    use tokio::time::timeout;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn everything_is_written_in_its_order() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let to_written = Arc::clone(&written);
        let printer = Printer::with(move |to, bytes| {
            to_written.lock().unwrap().push((to, bytes.to_vec()));
            Ok(())
        })
        .unwrap();
        printer.print(To::Stdout, b"one".to_vec()).await.unwrap();
        printer.print_now(To::Stderr, b"two".to_vec());
        // More than there is room for goes when nothing else waits.
        printer.print(To::Stdout, vec![b'x'; 2 * ROOM as usize]).await.unwrap();
        timeout(LONG, printer.flush_before(pending())).await.unwrap().unwrap();
        let written = written.lock().unwrap();
        let lengths: Vec<_> = written.iter().map(|(to, bytes)| (*to, bytes.len())).collect();
        assert_eq!(lengths, [(To::Stdout, 3), (To::Stderr, 3), (To::Stdout, 2 * ROOM as usize)]);
    }

    #[tokio::test]
    async fn a_reader_that_stalls_holds_up_neither_limits_nor_the_end() {
        let (release, stalled) = channel::<()>();
        let printer = Printer::with(move |_, _| {
            while stalled.recv().is_ok() {}
            Ok(())
        })
        .unwrap();
        printer.print(To::Stdout, vec![0; ROOM as usize]).await.unwrap();
        assert!(timeout(MOMENT, printer.print(To::Stdout, vec![0])).await.is_err(), "there is no room");
        printer.print_now(To::Stdout, b"a word".to_vec());
        timeout(LONG, printer.flush_before(ready(()))).await.unwrap().unwrap();
        // It reads on.
        drop(release);
        timeout(LONG, printer.flush()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_failure_is_told_to_those_who_print_and_to_those_who_wait() {
        let printer = Printer::with(|_, _| Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        printer.print(To::Stdout, vec![0]).await.unwrap();
        let told = timeout(LONG, printer.flush()).await.unwrap().unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::BrokenPipe);
        assert!(printer.print(To::Stdout, vec![0]).await.is_err());
    }
}
