//! Files out of a guest: its `tar` sends them, and a thread of the host takes them one after the other.

use std::io::{self, Write};

use tokio::sync::mpsc;

use super::guest::{Hands, Trouble};
use crate::artifact::tar::{Attributes, Decoder, Event};
use crate::vm::guest::Input;

/// Pieces of the stream that wait to be taken.
const QUEUE: usize = 16;

/// The code of `tar` when the archive is whole, but a file changed while it was read.
const EXIT_CHANGED: i32 = 1;

/// Runs a script that packs the names in its input, and has `take` take what it sends.
pub(in crate::job) async fn receive<T: Send + 'static>(
    hands: &Hands<'_>, script: &str, arguments: &[&str], names: Vec<u8>,
    take: impl FnOnce(&mut Incoming) -> io::Result<T> + Send + 'static,
) -> Result<T, Trouble> {
    let (sender, pieces) = mpsc::channel(QUEUE);
    let taking = tokio::task::spawn_blocking(move || {
        take(&mut Incoming { pieces, piece: Vec::new(), at: 0, decoder: Decoder::default() })
    });
    let feed = async |input: Input| {
        input.write(&names).await?;
        input.end();
        Ok(())
    };
    // The thread that takes is asked what is wrong once it takes no more.
    let sink = |bytes: &[u8]| sender.blocking_send(bytes.to_vec()).map_err(|_| Trouble::said("it was not packed"));
    let sent = hands.run(script, arguments, feed, sink).await;
    drop(sender);
    let taken = taking.await.map_err(|_| Trouble::said("packing it broke off: a fault of Dayfly"))?;
    let taken = taken.map_err(|error| Trouble::Said(error.to_string()));
    match sent {
        Ok((0 | EXIT_CHANGED, _)) => taken,
        // What the program complains of comes before what that made of the archive.
        Ok((code, complaints)) => Err(Trouble::Said(format!("`tar` ended with {code}: {complaints}"))),
        Err(error) => taken.and(Err(error)),
    }
}

/// The guest's stream, in pieces, on a thread that may block.
pub(in crate::job) struct Incoming {
    pieces: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    decoder: Decoder,
}

/// A part of the stream.
pub(in crate::job) enum Next {
    File {
        path: Vec<u8>,
        size: u64,
        attributes: Attributes,
    },
    Content {
        from: usize,
        to: usize,
    },
    End,
    Directory {
        path: Vec<u8>,
    },
    Link {
        path: Vec<u8>,
        target: Vec<u8>,
    },
    /// What no archive has.
    Other,
    Finished,
}

impl Incoming {
    /// What comes next; blocks until it is there.
    pub(in crate::job) fn next(&mut self) -> io::Result<Next> {
        loop {
            let mut input = &self.piece[self.at..];
            let event = self.decoder.next(&mut input).map_err(io::Error::other)?;
            let end = self.piece.len() - input.len();
            let next = event.map(|event| match event {
                Event::File { path, size, attributes } => Next::File { path, size, attributes },
                Event::Content(bytes) => Next::Content { from: end - bytes.len(), to: end },
                Event::End => Next::End,
                Event::Directory { path } => Next::Directory { path },
                Event::Link { path, target } => Next::Link { path, target },
                Event::Other { .. } => Next::Other,
            });
            self.at = end;
            match next {
                Some(next) => return Ok(next),
                None => match self.pieces.blocking_recv() {
                    Some(piece) => (self.piece, self.at) = (piece, 0),
                    None if self.decoder.is_complete() => return Ok(Next::Finished),
                    None => return Err(io::Error::other("the machine's stream was cut off")),
                },
            }
        }
    }

    /// Writes the rest of the file at hand.
    pub(in crate::job) fn copy(&mut self, out: &mut dyn Write) -> io::Result<()> {
        loop {
            match self.next()? {
                Next::Content { from, to } => out.write_all(&self.piece[from..to])?,
                _ => return Ok(()),
            }
        }
    }
}
