//! Bodies on their way through: every chunk is counted before it passes, and silence ends the transfer.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};

/// Why a body ended before its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TransferError {
    #[error("more bytes than the limit allows")]
    TooLarge,
    #[error("nothing came for {} s", .0.as_secs())]
    Idle(Duration),
    #[error("the connection broke")]
    Broken,
    #[error("not as many bytes as were announced")]
    Length,
}

/// Bytes that one or more transfers may have together. A clone is the same budget.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    spent: Arc<AtomicU64>,
    limit: u64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self { spent: Arc::default(), limit }
    }

    /// Bytes so far, those that were refused included.
    pub(super) fn spent(&self) -> u64 {
        self.spent.load(Ordering::Relaxed)
    }

    /// For [`bounded`].
    pub(super) fn spender(&self) -> impl FnMut(u64) -> bool + Send + 'static {
        let Self { spent, limit } = self.clone();
        move |bytes| spent.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= limit
    }
}

/// `source`, ended by an error when `spend` refuses the next chunk's bytes or nothing comes for `idle`.
pub(super) fn bounded<S, E, B>(
    source: S, idle: Duration, spend: B,
) -> impl Stream<Item = Result<Bytes, TransferError>> + Send
where
    S: Stream<Item = Result<Bytes, E>> + Send,
    B: FnMut(u64) -> bool + Send,
{
    stream::try_unfold((Box::pin(source), spend), move |(mut source, mut spend)| async move {
        match tokio::time::timeout(idle, source.next()).await {
            Err(_) => Err(TransferError::Idle(idle)),
            Ok(None) => Ok(None),
            Ok(Some(Err(_))) => Err(TransferError::Broken),
            Ok(Some(Ok(chunk))) if spend(chunk.len() as u64) => Ok(Some((chunk, (source, spend)))),
            Ok(Some(Ok(_))) => Err(TransferError::TooLarge),
        }
    })
}

/// `source`, ended by an error where it does not have exactly `announced` bytes.
pub(super) fn exact<S>(source: S, announced: u64) -> impl Stream<Item = Result<Bytes, TransferError>> + Send
where
    S: Stream<Item = Result<Bytes, TransferError>> + Send,
{
    stream::try_unfold((Box::pin(source), announced), |(mut source, left)| async move {
        match source.try_next().await? {
            None if left == 0 => Ok(None),
            Some(chunk) if chunk.len() as u64 <= left => {
                let left = left - chunk.len() as u64;
                Ok(Some((chunk, (source, left))))
            }
            Some(_) | None => Err(TransferError::Length),
        }
    })
}

/// All of a body in memory: for those that are [`bounded`] to what memory bears.
pub(super) async fn whole(source: impl Stream<Item = Result<Bytes, TransferError>>) -> Result<Vec<u8>, TransferError> {
    source
        .try_fold(Vec::new(), async |mut bytes: Vec<u8>, chunk| {
            bytes.extend_from_slice(&chunk);
            Ok(bytes)
        })
        .await
}

/// The transfer error among the causes of `error`.
pub(super) fn cause<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e TransferError> {
    std::iter::successors(Some(error), |error| (*error).source()).find_map(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(sizes: &[usize]) -> impl Stream<Item = Result<Bytes, ()>> + Send + use<> {
        stream::iter(sizes.iter().map(|size| Ok(Bytes::from(vec![0; *size]))).collect::<Vec<_>>())
    }

    fn budget(mut left: u64) -> impl FnMut(u64) -> bool + Send {
        move |bytes| {
            let fits = bytes <= left;
            left = left.saturating_sub(bytes);
            fits
        }
    }

    #[tokio::test]
    async fn what_fits_passes_and_the_next_chunk_does_not() {
        let second = Duration::from_secs(1);
        let passed: Vec<_> =
            bounded(chunks(&[3, 4]), second, budget(7)).map(|chunk| chunk.map(|c| c.len())).collect().await;
        assert_eq!(passed, [Ok(3), Ok(4)]);
        let passed: Vec<_> =
            bounded(chunks(&[3, 5]), second, budget(7)).map(|chunk| chunk.map(|c| c.len())).collect().await;
        assert_eq!(passed, [Ok(3), Err(TransferError::TooLarge)]);
    }

    #[tokio::test]
    async fn neither_more_nor_fewer_bytes_than_announced_pass() {
        for (sizes, announced, ends_well) in
            [(&[3, 4][..], 7, true), (&[], 0, true), (&[3], 7, false), (&[3, 5], 7, false), (&[1], 0, false)]
        {
            let source = bounded(chunks(sizes), Duration::from_secs(1), budget(100));
            let passed = whole(exact(source, announced)).await;
            let length = passed.map(|bytes| bytes.len() as u64);
            assert_eq!(length, if ends_well { Ok(announced) } else { Err(TransferError::Length) }, "{sizes:?}");
        }
    }

    #[tokio::test]
    async fn silence_ends_the_transfer() {
        let silent = stream::pending::<Result<Bytes, ()>>();
        let idle = Duration::from_millis(1);
        let passed: Vec<_> = bounded(silent, idle, budget(7)).collect().await;
        assert_eq!(passed, [Err(TransferError::Idle(idle))]);
    }
}
