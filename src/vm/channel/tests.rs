//! What a guest can make the host hold, by what it sends and by what it does not read.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::protocol::frame::Kind;
use crate::protocol::session::WINDOW;
use crate::vm::fake_guest::{DEADLINE, FakeGuest, frame};

fn numbered(kind: Kind, streams: impl Iterator<Item = u32>, payload: &[u8]) -> Vec<u8> {
    streams.flat_map(|stream| frame(kind, stream, payload)).collect()
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.unwrap()
}

#[tokio::test]
async fn a_window_of_single_bytes_takes_no_more_room_than_a_window() {
    let (mut guest, channel, mut connections) = FakeGuest::joined(Incoming::Accepted).await;
    guest.say(&frame(Kind::Open, 2, b"")).await;
    let (_unread, _) = within(connections.recv()).await.unwrap();
    let single = frame(Kind::Data, 2, b"x");
    for _ in 0..WINDOW / 1024 {
        guest.say(&single.repeat(1024)).await;
    }
    // What was said above has been taken when this is.
    guest.say(&frame(Kind::Open, 4, b"")).await;
    let (_stream, _) = within(connections.recv()).await.unwrap();
    let (length, room) = {
        let state = channel.shared.state();
        (state.inboxes[&2].received.len(), state.inboxes[&2].received.capacity())
    };
    assert_eq!(length, WINDOW as usize);
    assert!(room <= 2 * WINDOW as usize, "{room} bytes");
    guest.say(&single).await;
    let violated = Closed::Violated("the peer sent more on stream 2 than its window allows".into());
    assert_eq!(within(channel.closed()).await, violated);
}

#[tokio::test]
async fn a_guest_that_grants_credit_and_reads_nothing_does_not_fill_the_queue() {
    let (mut guest, channel, mut connections) = FakeGuest::joined(Incoming::Accepted).await;
    let stream = channel.open(Vec::new()).unwrap();
    let id = stream.id();
    let writer = tokio::spawn(async move { stream.write_all(&vec![0; 64 << 20]).await });
    let mut most = 0;
    for round in 1..=100 {
        let used = {
            let state = channel.shared.state();
            most = most.max(state.queued);
            WINDOW - state.session.credit_of(id).unwrap()
        };
        guest.say(&frame(Kind::Credit, id, &used.to_le_bytes())).await;
        // When the host has seen this, it has seen the credit.
        guest.say(&frame(Kind::Open, round * 2, b"")).await;
        within(connections.recv()).await.unwrap();
    }
    assert!((HIGH_WATER..HIGH_WATER + 2 * MAX_PAYLOAD).contains(&most), "{most} bytes");
    assert!(!writer.is_finished());
    channel.close("the test is over");
    assert!(within(writer).await.unwrap().is_err(), "a close wakes who waits");
}

#[tokio::test]
async fn a_sender_that_waited_goes_on_when_the_guest_reads() {
    let (mut guest, channel, _connections) = FakeGuest::joined(Incoming::Refused).await;
    let content = vec![7; 5 << 20];
    let stream = channel.open(Vec::new()).unwrap();
    let send = async {
        stream.write_all(&content).await.unwrap();
        stream.end();
    };
    let receive = async {
        let mut received = 0;
        while let Some(next) = guest.next().await {
            match next.kind {
                Kind::Data => {
                    received += next.payload.len();
                    let credit = (next.payload.len() as u32).to_le_bytes();
                    guest.say(&frame(Kind::Credit, next.stream, &credit)).await;
                }
                Kind::End => break,
                _ => {}
            }
        }
        received
    };
    let ((), received) = within(async { tokio::join!(send, receive) }).await;
    assert_eq!(received, content.len());
}

#[tokio::test]
async fn streams_that_nobody_takes_are_reset_and_forgotten() {
    let (mut guest, channel, connections) = FakeGuest::joined(Incoming::Accepted).await;
    guest.say(&numbered(Kind::Open, (1..=1000).map(|n| n * 2), b"hello")).await;
    let mut resets = 0;
    while resets < 1000 - MAX_INCOMING {
        assert_eq!(within(guest.next()).await.unwrap().kind, Kind::Reset);
        resets += 1;
    }
    assert_eq!(channel.shared.state().inboxes.len(), MAX_INCOMING);
    drop(connections);
    assert_eq!(within(guest.next()).await.unwrap().kind, Kind::Reset);
    assert_eq!(channel.shared.state().inboxes.len(), 0);
}

#[tokio::test]
async fn a_million_streams_without_reading_end_the_conversation() {
    let (mut guest, channel, _connections) = FakeGuest::joined(Incoming::Accepted).await;
    let violated = Closed::Violated("the guest does not read what it is sent".into());
    let opening = async {
        for begin in (0..1_000_000).step_by(1000) {
            guest.say(&numbered(Kind::Open, (1..=1000).map(|n| (begin + n) * 2), b"")).await;
        }
    };
    tokio::select! {
        closed = within(channel.closed()) => assert_eq!(closed, violated),
        () = opening => panic!("it could open them all"),
    }
    assert!(channel.shared.state().queued <= MAX_QUEUED);
}

#[tokio::test]
async fn a_connection_that_the_guest_never_ends_gives_its_stream_back() {
    let (mut guest, _channel, mut connections) = FakeGuest::joined(Incoming::Accepted).await;
    guest.say(&frame(Kind::Open, 2, b"")).await;
    let (stream, _) = within(connections.recv()).await.unwrap();
    drop(stream.into_lingering_io(Duration::from_millis(10)));
    assert_eq!(within(guest.next()).await.unwrap().kind, Kind::End);
    assert_eq!(within(guest.next()).await.unwrap().kind, Kind::Reset);
}
