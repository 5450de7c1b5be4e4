//! Files into a guest: a thread of the host makes a stream that the guest's `tar` unpacks.

use std::io::{self, Write};

use tokio::sync::mpsc;

use super::guest::{Hands, Trouble};
use crate::vm::guest::Input;

/// Pieces of the stream that wait for the guest.
const QUEUE: usize = 16;

const PIECE: usize = 256 << 10;

/// What is sent.
pub(in crate::job) type Archive = tar::Builder<Outgoing>;

/// Runs a script that unpacks its input, which `fill` makes.
pub(in crate::job) async fn send(
    hands: &Hands<'_>, script: &str, arguments: &[&str],
    fill: impl FnOnce(&mut Archive) -> io::Result<()> + Send + 'static,
) -> Result<(), Trouble> {
    let (pieces, mut receiver) = mpsc::channel(QUEUE);
    let filling = tokio::task::spawn_blocking(move || {
        let mut archive = tar::Builder::new(Outgoing { pieces, piece: Vec::new() });
        fill(&mut archive)?;
        archive.into_inner()?.flush()
    });
    let feed = async |input: Input| {
        while let Some(piece) = receiver.recv().await {
            let piece: Vec<u8> = piece;
            input.write(&piece).await?;
        }
        input.end();
        Ok(())
    };
    let taken = hands.run(script, arguments, feed, |_| Ok(())).await;
    // Who still makes it is to see that nobody takes it any more.
    drop(receiver);
    let filled = filling.await.map_err(|_| Trouble::said("reading it broke off: a fault of Dayfly"))?;
    match taken? {
        (0, _) => filled.map_err(Trouble::said),
        (code, complaints) => Err(Trouble::Said(format!("it could not be unpacked ({code}): {complaints}"))),
    }
}

/// Hands pieces over.
pub(in crate::job) struct Outgoing {
    pieces: mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        if piece.is_empty() {
            return Ok(());
        }
        self.pieces.blocking_send(piece).map_err(|_| io::Error::other("the machine takes no more"))
    }
}
