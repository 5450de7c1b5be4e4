//! Tests of whole logs, on real files.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, SystemTime};

use futures::{StreamExt, TryStreamExt};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

struct Logs {
    store: LogStore,
    job: JobId,
    directory: TempDir,
}

impl Logs {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { store: LogStore::new(&directory.path().join("logs")).unwrap(), job: JobId::random(), directory }
    }

    async fn writer(&self, limit: u64) -> LogWriter {
        self.store.create(&self.job, 1, limit).await.unwrap()
    }

    async fn reader(&self) -> LogReader {
        self.store.reader(&self.job, 1).await.unwrap().unwrap()
    }

    async fn text(&self) -> String {
        self.reader().await.text(0).try_collect().await.unwrap()
    }

    fn log_directory(&self) -> PathBuf {
        self.store.log_directory(&self.job, 1)
    }

    fn disk_usage(&self) -> u64 {
        fs::read_dir(self.log_directory()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("it must not hang")
}

#[tokio::test]
async fn what_is_written_is_read_in_its_order() {
    let logs = Logs::new();
    let mut writer = logs.writer(1 << 20).await;
    writer.append(1, Stream::Heading, 1, b"Run cargo test\nwith more lines").await.unwrap();
    writer.append(1, Stream::Stdout, 2, b"compiling\n").await.unwrap();
    writer.append(1, Stream::Stdout, 3, b"testing ... ").await.unwrap();
    writer.append(1, Stream::Stderr, 4, b"warning: slow\n").await.unwrap();
    writer.append(1, Stream::Stdout, 5, b"ok\n").await.unwrap();
    writer.append(2, Stream::Service, 6, b"done").await.unwrap();
    assert_eq!(writer.finish(7).await.unwrap(), LogSize { bytes: 73, cut: 0 });
    insta::assert_snapshot!(logs.text().await, @r"
    ==> Run cargo test with more lines
    compiling
    testing ... 
    warning: slow
    ok
    done
    ");
    let chunks: Vec<_> = logs.reader().await.read(0).try_collect().await.unwrap();
    let last = chunks[0].entries.last().unwrap();
    assert_eq!(*last, Entry::Piece { step: 2, stream: Stream::Service, at_ms: 6, text: "done".into() });
}

#[tokio::test]
async fn characters_and_sequences_survive_being_torn() {
    let logs = Logs::new();
    let mut writer = logs.writer(1 << 20).await;
    for byte in "\x1b[32mgrün\x1b[0m 10 €\r\n😀".bytes() {
        writer.append(1, Stream::Stdout, 0, &[byte]).await.unwrap();
        writer.append(1, Stream::Stderr, 0, b"").await.unwrap();
    }
    writer.append(1, Stream::Stdout, 0, b"\xe2\x82").await.unwrap();
    writer.finish(0).await.unwrap();
    assert_eq!(logs.text().await, "grün 10 €\n😀\u{fffd}");
}

#[tokio::test]
async fn a_follower_sees_everything_and_ends_with_the_log() {
    let logs = Logs::new();
    let mut writer = logs.writer(1 << 20).await;
    let mut follower = Box::pin(logs.reader().await.follow(0));
    let mut seen = String::new();
    for n in 0..20 {
        writer.append(1, Stream::Stdout, n, format!("line {n}\n").as_bytes()).await.unwrap();
        // Each line arrives before the next one is written.
        while !seen.ends_with(&format!("line {n}\n")) {
            seen.push_str(&within(follower.next()).await.unwrap().unwrap().to_text());
        }
    }
    writer.finish(20).await.unwrap();
    assert!(within(follower.next()).await.is_none());
}

#[tokio::test]
async fn a_follower_ends_when_the_writer_is_dropped() {
    let logs = Logs::new();
    let mut writer = logs.writer(1 << 20).await;
    writer.append(1, Stream::Stdout, 0, b"started").await.unwrap();
    let follower = logs.reader().await.follow(0);
    drop(writer);
    let text: Vec<_> = within(follower.map_ok(|chunk| chunk.to_text()).try_collect()).await.unwrap();
    assert_eq!(text.concat(), "started");
}

#[tokio::test]
async fn reading_can_resume_at_every_cursor() {
    let logs = Logs::new();
    let mut writer = logs.writer(1 << 20).await;
    for n in 0..3000 {
        writer.append(n / 1000, Stream::Stdout, 0, format!("line {n} {}\n", "x".repeat(80)).as_bytes()).await.unwrap();
    }
    writer.finish(0).await.unwrap();
    let reader = logs.reader().await;
    let whole = logs.text().await;
    let chunks: Vec<_> = reader.read(0).try_collect().await.unwrap();
    assert!(chunks.len() > 3);
    let mut before = String::new();
    for chunk in chunks {
        before.push_str(&chunk.to_text());
        let rest: String = reader.text(chunk.next).try_collect().await.unwrap();
        assert!(before.clone() + &rest == whole, "at {}", chunk.next);
    }
    // Beyond the end there is nothing, and nothing fails.
    assert_eq!(reader.text(u64::MAX).try_collect::<String>().await.unwrap(), "");
}

#[tokio::test]
async fn a_resumed_follower_beyond_the_end_goes_on_at_the_end() {
    let logs = Logs::new();
    let mut writer = logs.writer(1 << 20).await;
    writer.append(1, Stream::Stdout, 0, b"before\n").await.unwrap();
    let mut follower = Box::pin(logs.reader().await.follow(u64::MAX));
    assert!(futures::poll!(follower.next()).is_pending());
    let shown = async {
        let mut text = String::new();
        while !text.ends_with("after\n") {
            text.push_str(&follower.next().await.unwrap().unwrap().to_text());
        }
    };
    // Where the end is when the follower first looks is open: so there is always something after it.
    let write = async {
        loop {
            writer.append(1, Stream::Stdout, 0, b"after\n").await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    within(futures::future::select(Box::pin(shown), Box::pin(write))).await;
}

#[tokio::test]
async fn what_exceeds_the_limit_is_cut_from_the_middle_and_counted() {
    let logs = Logs::new();
    let limit = 256 * 1024;
    let mut writer = logs.writer(limit).await;
    let lines: Vec<String> = (0..20_000).map(|n| format!("this is line number {n}\n")).collect();
    for line in &lines {
        writer.append(1, Stream::Stdout, 0, line.as_bytes()).await.unwrap();
    }
    let size = writer.finish(0).await.unwrap();
    let whole = lines.concat();
    assert_eq!(size.bytes, whole.len() as u64);
    assert!(size.cut > 0 && logs.disk_usage() <= limit, "{size:?}, {} on disk", logs.disk_usage());

    let text = logs.text().await;
    let notice = format!("\n[dayfly: {} bytes were cut here to keep the log within its limit]\n", size.cut);
    let (head, tail) = text.split_once(&notice).expect("the notice names the number of bytes");
    assert!(whole.starts_with(head) && whole.ends_with(tail));
    assert_eq!((head.len() + tail.len()) as u64 + size.cut, size.bytes);
    assert!(tail.len() > head.len());
}

#[tokio::test]
async fn a_slow_reader_does_not_hold_up_the_writer_and_sees_what_was_cut() {
    let logs = Logs::new();
    let mut writer = logs.writer(MIN_LIMIT).await;
    writer.append(1, Stream::Stdout, 0, b"first\n").await.unwrap();
    let mut follower = Box::pin(logs.reader().await.follow(0));
    let first = within(follower.next()).await.unwrap().unwrap();
    assert_eq!(first.to_text(), "first\n");
    for n in 0..10_000 {
        within(writer.append(1, Stream::Stdout, 0, format!("line {n}\n").as_bytes())).await.unwrap();
    }
    let size = writer.finish(0).await.unwrap();
    let rest: Vec<_> = within(follower.try_collect()).await.unwrap();
    let cut: u64 = rest
        .iter()
        .flat_map(|chunk| &chunk.entries)
        .map(|entry| match entry {
            Entry::Cut { bytes } => *bytes,
            Entry::Piece { .. } => 0,
        })
        .sum();
    assert_eq!(cut, size.cut);
    assert!(rest.last().unwrap().to_text().ends_with("line 9999\n"));
}

#[tokio::test]
async fn the_tail_is_bounded_and_begins_with_a_line() {
    let logs = Logs::new();
    let mut writer = logs.writer(1 << 20).await;
    for n in 0..5000 {
        writer.append(1, Stream::Stdout, 0, format!("zeile {n} ü\n").as_bytes()).await.unwrap();
    }
    writer.finish(0).await.unwrap();
    let reader = logs.reader().await;
    insta::assert_snapshot!(reader.tail(80).await.unwrap(), @r"
    [dayfly: earlier output is not shown here]
    zeile 4998 ü
    zeile 4999 ü
    ");
    assert_eq!(reader.tail(10).await.unwrap(), "");
    assert_eq!(reader.tail(1 << 20).await.unwrap(), logs.text().await);
    for max in [43, 100, 1000, 65_535] {
        let tail = reader.tail(max).await.unwrap();
        assert!(tail.len() <= max && tail.len() + 100 > max, "{} of {max}", tail.len());
    }
}

#[tokio::test]
async fn the_tail_of_an_endless_line_is_its_end() {
    let logs = Logs::new();
    let mut writer = logs.writer(1 << 20).await;
    writer.append(1, Stream::Stdout, 0, "x".repeat(5000).as_bytes()).await.unwrap();
    writer.append(1, Stream::Stdout, 0, b"end\n").await.unwrap();
    writer.finish(0).await.unwrap();
    insta::assert_snapshot!(logs.reader().await.tail(60).await.unwrap(), @r"
    [dayfly: earlier output is not shown here]
    xxxxxxxxxxxxxend
    ");
}

#[tokio::test]
async fn a_torn_end_is_not_seen() {
    let logs = Logs::new();
    let mut writer = logs.writer(1 << 20).await;
    writer.append(1, Stream::Stdout, 0, b"one\n").await.unwrap();
    writer.append(1, Stream::Stdout, 0, b"two\n").await.unwrap();
    writer.finish(0).await.unwrap();
    let (_, path) = segments::list(&logs.log_directory()).unwrap().remove(0);
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let text = logs.text().await;
        assert!(["", "one\n", "one\ntwo\n"].contains(&&*text), "{length}: {text:?}");
        // Grown by the file system, but never written.
        let zeros = [&whole[..length], &[0; 64]].concat();
        fs::write(&path, zeros).unwrap();
        let text = logs.text().await;
        assert!("one\ntwo\n".starts_with(text.trim_end_matches('\u{fffd}')), "{length}: {text:?}");
    }
}

#[tokio::test]
async fn a_log_is_begun_once() {
    let logs = Logs::new();
    let writer = logs.writer(1 << 20).await;
    let twice = logs.store.create(&logs.job, 1, 1 << 20).await.unwrap_err();
    insta::assert_snapshot!(twice, @"could not begin a log: entity already exists");
    drop(writer);
    assert!(logs.store.create(&logs.job, 2, 1 << 20).await.is_ok());
    assert!(logs.store.reader(&logs.job, 3).await.unwrap().is_none());
}

#[tokio::test]
async fn a_failing_disk_is_told_to_the_writer() {
    let logs = Logs::new();
    let mut writer = logs.writer(MIN_LIMIT).await;
    // Without its directory the log cannot begin another segment.
    fs::remove_dir_all(logs.directory.path()).unwrap();
    let failed = within(async {
        loop {
            if let Err(error) = writer.append(1, Stream::Stdout, 0, &[b'x'; 1000]).await {
                return error;
            }
        }
    })
    .await;
    assert!(failed.to_string().starts_with("could not write to the log: "), "{failed}");
    assert!(!failed.is_disk_full());
    assert!(within(writer.finish(0)).await.is_err());
}

#[tokio::test]
async fn old_logs_are_deleted_and_live_ones_kept() {
    let logs = Logs::new();
    let mut ended = logs.writer(1 << 20).await;
    ended.append(1, Stream::Stdout, 0, b"old").await.unwrap();
    ended.finish(0).await.unwrap();
    let live = logs.store.create(&logs.job, 2, 1 << 20).await.unwrap();
    let future = SystemTime::now() + Duration::from_hours(1);
    assert_eq!(logs.store.prune(SystemTime::UNIX_EPOCH).await.unwrap(), 0);
    assert_eq!(logs.store.prune(future).await.unwrap(), 1);
    assert!(logs.store.reader(&logs.job, 1).await.unwrap().is_none());
    assert!(logs.store.reader(&logs.job, 2).await.unwrap().is_some());
    within(live.finish(0)).await.unwrap();
    assert_eq!(logs.store.prune(future).await.unwrap(), 1);
    assert_eq!(fs::read_dir(&logs.store.directory).unwrap().count(), 0);
}

/// What a log shows of pieces of output, in the words of its documentation.
fn expected(pieces: &[(u16, bool, String)]) -> String {
    let mut text = String::new();
    let mut open = None;
    for (step, is_error, piece) in pieces.iter().filter(|(_, _, piece)| !piece.is_empty()) {
        if !text.is_empty() && !text.ends_with('\n') && open != Some((step, is_error)) {
            text.push('\n');
        }
        text.push_str(piece);
        open = Some((step, is_error));
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn a_log_shows_what_was_written(
        pieces in prop::collection::vec((0_u16..3, any::<bool>(), "[a-zü€\n ]{0,3000}"), 0..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let logs = Logs::new();
            let mut writer = logs.writer(4 << 20).await;
            for (step, is_error, piece) in &pieces {
                let stream = if *is_error { Stream::Stderr } else { Stream::Stdout };
                writer.append(*step, stream, 0, piece.as_bytes()).await.unwrap();
            }
            writer.finish(0).await.unwrap();
            prop_assert_eq!(logs.text().await, expected(&pieces));
            Ok(())
        })?;
    }
}
