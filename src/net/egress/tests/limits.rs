//! What is too much, and what is over.

use super::super::policy::Limits;
use super::*;

const CONNECT: &[u8] = b"CONNECT site.example:22 HTTP/1.1\r\n\r\n";

async fn limited(limits: Limits) -> (World, TcpListener) {
    let world = World::new(Policy { ports: vec![22], limits, ..Policy::default() });
    world.name("site.example", &[&["8.8.8.8"]]);
    let site = world.listener("8.8.8.8:22").await;
    (world, site)
}

#[tokio::test]
async fn a_job_moves_as_many_bytes_as_it_may() {
    let (world, site) = limited(Limits { bytes: 200_000, ..Limits::default() }).await;
    let mut guest = world.says(CONNECT).await;
    guest.head().await;
    let mut upstream = accept(&site).await;
    let flood = tokio::spawn(async move { while upstream.write_all(&[7; 10_000]).await.is_ok() {} });
    let received = guest.read_to_end().await.len();
    assert!((100_000..200_000).contains(&received), "{received}");
    flood.await.unwrap();
    let mut late = world.says(CONNECT).await;
    assert!(late.read_to_end().await.starts_with("HTTP/1.1 503 Service Unavailable: the job has moved"));
    let log = world.log().await;
    assert_eq!((log.count(Verdict::Failed), log.count(Verdict::Allowed)), (2, 0), "{log:?}");
}

#[tokio::test]
async fn a_connection_too_many_waits_for_its_turn() {
    let (world, site) = limited(Limits { connections: 1, ..Limits::default() }).await;
    let mut first = world.says(CONNECT).await;
    first.head().await;
    let upstream = accept(&site).await;
    let mut waiting = world.says(CONNECT).await;
    tokio::task::yield_now().await;
    assert_eq!(world.connected().len(), 1);
    drop((first, upstream));
    assert!(waiting.head().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_connection_that_the_jobs_end_breaks_off_is_in_the_log() {
    let (world, site) = limited(Limits::default()).await;
    let mut guest = world.says(CONNECT).await;
    guest.head().await;
    let mut upstream = accept(&site).await;
    guest.stream.write_all(b"some words").await.unwrap();
    read_exactly(&mut upstream, 10).await;
    assert_eq!(world.egress.log().entries, [], "it is still open");
    guest.serving.abort();
    world.egress.settled().await;
    let log = world.egress.log();
    assert_eq!((log.count(Verdict::Allowed), log.sent), (1, 10));
    assert_eq!(upstream.read(&mut [0; 9]).await.unwrap_or(0), 0, "and it is closed");
}
