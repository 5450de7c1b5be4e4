//! What an agent can say that was replaced by the job it runs, and what becomes of it: the guest is lost, with a word for
//! how, or the request fails; and nothing else happens.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::channel::{Channel, Incoming};
use super::fake_guest::{DEADLINE, FakeGuest, frame};
use super::guest::Guest;
use super::loss::Loss;
use crate::protocol::VERSION;
use crate::protocol::frame::{Frame, Kind, MAX_PAYLOAD, NONCE_LEN, Nonce};
use crate::protocol::message::{Exec, Exit, ExitStatus, FileContent, MAX_RECORD, Output, Owner, answer_record, encode};
use crate::protocol::session::WINDOW;

/// Long enough for a guest that answers; a guest that does not makes the test take so long.
const ANSWER: Duration = Duration::from_secs(20);
const NO_ANSWER: Duration = Duration::from_millis(50);

/// What a hostile guest says when it is asked for 10 bytes of a file on a stream.
type Saying = fn(u32, Nonce) -> Vec<u8>;

fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(MAX_PAYLOAD).flat_map(|piece| frame(Kind::Data, stream, piece)).collect()
}

fn file(bytes: usize) -> Vec<u8> {
    answer_record(&Ok(FileContent { bytes: vec![b'x'; bytes], truncated: false }))
}

fn refusal(text: &str) -> Vec<u8> {
    answer_record::<()>(&Err(text.to_owned()))
}

const ANSWERS: [(&str, Saying); 22] = [
    ("the truth", |stream, _| data(stream, &file(10))),
    ("garbage", |_, _| vec![0x5A; 100_000]),
    ("an unknown kind of frame", |stream, _| [0xDF, 9, 0, 0, stream as u8, 0, 0, 0, 0, 0, 0, 0].to_vec()),
    ("a frame of 4 GiB", |stream, _| [0xDF, 3, 0, 0, stream as u8, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF].to_vec()),
    ("its attach once more", |_, nonce| Frame::attach(nonce, VERSION).to_bytes()),
    ("another's attach", |_, _| Frame::attach([7; NONCE_LEN], VERSION).to_bytes()),
    ("a stream of its own", |_, _| frame(Kind::Open, 2, b"")),
    ("a stream of the host's", |stream, _| frame(Kind::Open, stream + 2, b"")),
    ("on a stream that was never opened", |stream, _| data(stream + 40, &file(10))),
    ("on the stream of nobody", |_, _| data(0, &file(10))),
    ("nothing, as data", |stream, _| frame(Kind::Data, stream, b"")),
    ("credit that it was not asked for", |stream, _| frame(Kind::Credit, stream, &u32::MAX.to_le_bytes())),
    ("credit of three bytes", |stream, _| frame(Kind::Credit, stream, &[1, 2, 3])),
    ("more after the end", |stream, _| [frame(Kind::End, stream, b""), data(stream, &file(10))].concat()),
    ("an end and no answer", |stream, _| frame(Kind::End, stream, b"")),
    ("a reset", |stream, _| frame(Kind::Reset, stream, b"")),
    ("a record of 4 GiB", |stream, _| data(stream, &[4, 0xFF, 0xFF, 0xFF, 0xFF])),
    ("half a record", |stream, _| [data(stream, &file(10)[..9]), frame(Kind::End, stream, b"")].concat()),
    ("the answer to something else", |stream, _| data(stream, &answer_record(&Ok(())))),
    ("a program's output", |stream, _| data(stream, &Output::Stdout(b"hello".to_vec()).to_record())),
    ("more than it was asked for", |stream, _| data(stream, &file(11))),
    ("a refusal that draws a picture", |stream, _| {
        data(stream, &refusal(&format!("no\n\u{1b}[2Jerror: the host is broken{}", "!".repeat(9_000))))
    }),
];

async fn asked(saying: Saying) -> String {
    let (mut guest, channel, _connections) = FakeGuest::joined(Incoming::Refused).await;
    let host = Guest::new(channel).with_limit(ANSWER);
    let answers = async {
        let stream = guest.request().await;
        let said = saying(stream, guest.nonce);
        guest.say(&said).await;
        guest
    };
    let (answer, _guest) = tokio::join!(host.read_file("/f", 10), answers);
    match answer {
        Ok(content) => format!("{} bytes", content.bytes.len()),
        Err(error @ super::VmError::Refused { .. }) => error.to_string(),
        Err(error) => Loss::from(error).to_string(),
    }
}

#[tokio::test]
async fn every_answer_is_the_truth_or_names_what_is_wrong_with_it() {
    let mut lines = Vec::new();
    for (what, saying) in ANSWERS {
        lines.push(format!("{what}: {}", asked(saying).await));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

/// What a hostile guest says on the stream of a program that it runs.
const OUTPUTS: [(&str, Saying); 8] = [
    ("an exit", |stream, _| data(stream, &exited(ExitStatus::Code(3)))),
    ("an exit twice", |stream, _| data(stream, &exited(ExitStatus::Code(3)).repeat(2))),
    ("output after the exit", |stream, _| {
        data(stream, &[exited(ExitStatus::Code(3)), Output::Stdout(vec![b'x'; 1000]).to_record()].concat())
    }),
    ("an end without an exit", |stream, _| {
        [data(stream, &Output::Stdout(b"hello".to_vec()).to_record()), frame(Kind::End, stream, b"")].concat()
    }),
    ("an answer", |stream, _| data(stream, &answer_record(&Ok(())))),
    ("a record of an unknown kind", |stream, _| data(stream, &[77, 0, 0, 0, 0])),
    ("an exit that is none", |stream, _| data(stream, &[3, 2, 0, 0, 0, 9, 9])),
    ("an exit with a novel", |stream, _| {
        data(stream, &exited(ExitStatus::NotStarted("a long story\r\n".repeat(10_000))))
    }),
];

fn exited(status: ExitStatus) -> Vec<u8> {
    Output::Exited(Exit { status, oom_kills: u64::MAX, is_disk_full: false }).to_record()
}

async fn ran(saying: Saying) -> String {
    let (mut guest, channel, _connections) = FakeGuest::joined(Incoming::Refused).await;
    let host = Guest::new(channel);
    let mut running = host.exec(exec()).await.unwrap();
    let stream = guest.request().await;
    let said = saying(stream, guest.nonce);
    guest.say(&said).await;
    loop {
        match running.next().await {
            Ok(Output::Exited(exit)) => return format!("{:?}", exit.status),
            Ok(_) => {}
            Err(error) => return Loss::from(error).to_string(),
        }
    }
}

fn exec() -> Exec {
    Exec { argv: vec!["true".into()], env: Vec::new(), directory: "/".into(), owner: Owner::ROOT, stdin: false }
}

#[tokio::test]
async fn a_program_has_one_end_whatever_is_said_of_it() {
    let mut lines = Vec::new();
    for (what, saying) in OUTPUTS {
        lines.push(format!("{what}: {}", ran(saying).await));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn a_guest_that_hangs_up_in_the_middle_is_lost() {
    let (mut guest, channel, _connections) = FakeGuest::joined(Incoming::Refused).await;
    let host = Guest::new(channel);
    let hangs_up = async {
        let stream = guest.request().await;
        guest.say(&frame(Kind::Data, stream, &file(10))[..14]).await;
        drop(guest);
    };
    let (answer, ()) = tokio::join!(host.read_file("/f", 10), hangs_up);
    assert_eq!(Loss::from(answer.unwrap_err()), Loss::Other("its channel closed".into()));
}

#[tokio::test]
async fn silence_is_waited_out_and_named() {
    // Before the conversation.
    let (_guest, attaching) = FakeGuest::attached_to(Incoming::Refused, NO_ANSWER).await;
    let loss = Loss::from(attaching.await.unwrap().unwrap_err());
    assert!(matches!(&loss, Loss::Unresponsive(what) if what.contains("the agent's answer")), "{loss}");
    // And in it, whatever is asked.
    let (_guest, channel, _connections) = FakeGuest::joined(Incoming::Refused).await;
    let host = Guest::new(channel).with_limit(NO_ANSWER);
    let mut answers = vec![
        host.read_file("/f", 1).await.map(drop),
        host.write_file("/f", &vec![0; MAX_RECORD], 0o644, Owner::ROOT).await,
        host.make_directory("/d", Owner::ROOT).await,
        host.sync(false).await,
    ];
    answers.push(host.exec(exec()).await.unwrap().signal(9).await);
    for answer in answers {
        let loss = Loss::from(answer.unwrap_err());
        assert!(matches!(&loss, Loss::Unresponsive(what) if what.contains("an answer of the guest")), "{loss}");
    }
}

#[tokio::test]
async fn only_the_attach_of_this_very_conversation_joins_it() {
    for (what, answer) in [
        ("of another conversation", Frame::attach([7; NONCE_LEN], VERSION).to_bytes()),
        ("garbage without end", vec![0xDF; 4 << 20]),
    ] {
        let (mut guest, attaching) = FakeGuest::attached_to(Incoming::Refused, NO_ANSWER).await;
        guest.say(&answer).await;
        let loss = Loss::from(attaching.await.unwrap().unwrap_err());
        assert!(matches!(&loss, Loss::Unresponsive(_)), "{what}: {loss}");
    }
    let (mut guest, attaching) = FakeGuest::attached_to(Incoming::Refused, DEADLINE).await;
    guest.say(&Frame::attach(guest.nonce, VERSION + 1).to_bytes()).await;
    let loss = Loss::from(attaching.await.unwrap().unwrap_err());
    assert!(matches!(&loss, Loss::Misbehaved(how) if how.contains("version")), "{loss}");
}

/// Two guests, of which one answers what the other was asked: it can only speak on its own channel.
#[tokio::test]
async fn a_guest_that_answers_for_another_is_lost_and_the_other_is_not() {
    let (mut liar, first, _first_connections) = FakeGuest::joined(Incoming::Refused).await;
    let (mut honest, second, _second_connections) = FakeGuest::joined(Incoming::Refused).await;
    let (first, second) = (Guest::new(first).with_limit(ANSWER), Guest::new(second).with_limit(ANSWER));
    let lies = async {
        let stream = liar.request().await;
        // Streams of the other job, with the other's numbers and the other's nonce.
        let said = [Frame::attach(honest.nonce, VERSION).to_bytes(), data(stream, &file(10))].concat();
        liar.say(&said).await;
        let stream = honest.request().await;
        honest.say(&data(stream, &file(5))).await;
    };
    let (of_liar, of_honest, ()) = tokio::join!(first.read_file("/f", 10), second.read_file("/f", 10), lies);
    assert!(matches!(Loss::from(of_liar.unwrap_err()), Loss::Misbehaved(_)));
    assert_eq!(of_honest.unwrap().bytes.len(), 5);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Frames with mistakes, and bytes that are no frames.
    fn saying() -> impl Strategy<Value = Vec<u8>> {
        let kind = prop::sample::select(vec![Kind::Open, Kind::Data, Kind::Credit, Kind::End, Kind::Reset]);
        let payload = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            Just(file(10)),
            Just(encode(&ExitStatus::Code(0))),
            Just(WINDOW.to_le_bytes().to_vec())
        ];
        let framed = (kind, 0u32..6, payload).prop_map(|(kind, stream, payload)| frame(kind, stream, &payload));
        prop::collection::vec(prop_oneof![9 => framed, 1 => prop::collection::vec(any::<u8>(), 0..40)], 0..40)
            .prop_map(|parts| parts.concat())
    }

    async fn survives(said: Vec<u8>) {
        let (mut guest, channel, mut connections) = FakeGuest::joined(Incoming::Accepted).await;
        let host = Guest::new(Channel::clone(&channel)).with_limit(ANSWER);
        let talk = async {
            guest.request().await;
            guest.say(&said).await;
            drop(guest);
        };
        let (answer, ()) = tokio::join!(host.read_file("/f", 10), talk);
        if let Ok(content) = answer {
            assert!(content.bytes.len() <= 10);
        }
        while connections.recv().await.is_some() {}
        channel.closed().await;
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn whatever_a_guest_says_the_host_gets_an_answer_or_a_loss(said in saying()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { tokio::time::timeout(DEADLINE, survives(said)).await.unwrap() });
        }
    }
}
