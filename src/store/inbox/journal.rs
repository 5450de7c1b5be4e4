//! The thread that writes the inbox.
//!
//! What arrives while one write is under way becomes the next, with one synchronisation for all of it. Nobody waits for others
//! to come: a delivery that is alone is written at once. It is a thread, as all that it does is to wait for a disk.

use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::record::{self, Head};
use super::segments::{Open, Place, Segments};

/// Deliveries that wait, as many as the door lets in at a time; more callers wait for a place.
const QUEUE: usize = 16;

/// Deliveries in one write.
const MAX_TOGETHER: usize = 64;

/// A delivery and who waits for it.
pub(super) struct Waiting {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
    pub(super) durable: oneshot::Sender<Result<(), Arc<io::Error>>>,
}

/// A durable delivery, not yet taken into the database.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) head: Head,
    pub(super) place: Place,
    /// Of the body, in bytes.
    pub(super) length: u64,
    /// Where the next record begins.
    pub(super) end: u64,
}

/// Starts the thread, which begins with segment `next`, tells `written` of all that is durable, and ends when the last
/// sender is dropped.
pub(super) fn start(
    segments: Segments, next: u64, written: mpsc::Sender<Written>,
) -> io::Result<mpsc::Sender<Waiting>> {
    let (queue, waiting) = mpsc::channel(QUEUE);
    let journal = Journal { segments, next, open: None };
    std::thread::Builder::new().name("inbox".to_owned()).spawn(move || journal.run(waiting, &written))?;
    Ok(queue)
}

struct Journal {
    segments: Segments,
    /// The number of the next segment.
    next: u64,
    open: Option<Open>,
}

impl Journal {
    fn run(mut self, mut waiting: mpsc::Receiver<Waiting>, written: &mpsc::Sender<Written>) {
        let mut batch = Vec::with_capacity(MAX_TOGETHER);
        while let Some(first) = waiting.blocking_recv() {
            batch.push(first);
            batch.extend(std::iter::from_fn(|| waiting.try_recv().ok()).take(MAX_TOGETHER - 1));
            let result = self.write(&batch).map_err(Arc::new);
            let mut places = match &result {
                Ok(places) => places.iter(),
                Err(_) => {
                    // What is in the file after an error nobody knows: it is not written to any more.
                    self.leave_segment();
                    [].iter()
                }
            };
            let mut taken = Vec::with_capacity(batch.len());
            for Waiting { head, body, durable } in batch.drain(..) {
                // A caller that went away does not want the answer; its delivery stays.
                drop(durable.send(result.as_ref().map(|_| ()).map_err(Arc::clone)));
                if let Some((place, end)) = places.next() {
                    taken.push(Written { head, place: *place, length: body.len() as u64, end: *end });
                }
            }
            // When the database is slow this waits, and so does who delivers.
            if taken.into_iter().any(|delivery| written.blocking_send(delivery).is_err()) {
                return;
            }
        }
        self.leave_segment();
    }

    /// Nothing is added to the segment any more.
    fn leave_segment(&mut self) {
        if let Some(Err(error)) = self.open.take().map(Open::finish) {
            tracing::warn!(%error, "the room that the inbox did not use could not be freed");
        }
    }

    /// Writes all of them, durably; gives where each is and ends.
    fn write(&mut self, batch: &[Waiting]) -> io::Result<Vec<(Place, u64)>> {
        let heads = batch.iter().map(|waiting| record::encode(&waiting.head, &waiting.body));
        let heads = heads.collect::<io::Result<Vec<_>>>()?;
        let needed = batch.iter().zip(&heads).map(|(waiting, head)| head.len() + waiting.body.len()).sum::<usize>();
        let open = self.open_with_room(needed as u64)?;
        let mut end = open.end();
        let places = batch.iter().zip(&heads).map(|(waiting, head)| {
            let place = end;
            end.position += (head.len() + waiting.body.len()) as u64;
            (place, end.position)
        });
        let places = places.collect();
        let parts: Vec<&[u8]> =
            batch.iter().zip(&heads).flat_map(|(waiting, head)| [&head[..], &waiting.body[..]]).collect();
        open.append(&parts)?;
        open.sync()?;
        Ok(places)
    }

    fn open_with_room(&mut self, bytes: u64) -> io::Result<&mut Open> {
        if self.open.as_ref().is_some_and(|open| !open.has_room(bytes)) {
            self.leave_segment();
        }
        match &mut self.open {
            Some(open) => Ok(open),
            none => {
                // A number is tried once: what a failure left has it.
                let number = self.next;
                self.next += 1;
                Ok(none.insert(self.segments.create(number, bytes)?))
            }
        }
    }
}
