//! CONNECT and SOCKS5.

use super::super::addresses::{Addresses, Network};
use super::super::hello::sample::client_hello;
use super::*;

const CONNECT: &[u8] = b"CONNECT site.example:443 HTTP/1.1\r\nHost: site.example:443\r\n\r\n";
const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

fn hello(name: &str) -> Vec<u8> {
    client_hello(&[name], 16 << 10)
}

fn socks(host: &str, port: u16) -> Vec<u8> {
    [&[5, 1, 0, 5, 1, 0, 3, host.len() as u8], host.as_bytes(), &port.to_be_bytes()].concat()
}

#[tokio::test]
async fn bytes_pass_in_both_directions_and_each_ends_by_itself() {
    let world = World::new(Policy::default());
    let site = world.site().await;
    for opening in [CONNECT.to_vec(), socks("SITE.example.", 443)] {
        let mut guest = world.says(&opening).await;
        if opening[0] == 5 {
            assert_eq!(guest.read(2 + 10).await, [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        } else {
            assert_eq!(guest.head().await, ESTABLISHED);
        }
        let mut upstream = accept(&site).await;
        let hello = hello("site.example");
        guest.stream.write_all(&hello).await.unwrap();
        assert_eq!(read_exactly(&mut upstream, hello.len()).await, hello);
        guest.stream.shutdown().await.unwrap();
        assert_eq!(upstream.read(&mut [0; 9]).await.unwrap(), 0, "the guest's end reaches the other side");
        upstream.write_all(b"still here").await.unwrap();
        drop(upstream);
        assert_eq!(guest.read_to_end().await, "still here", "and the other side may go on");
    }
    let log = world.log().await;
    let [entry] = &log.entries[..] else { panic!("{log:?}") };
    let length = hello("site.example").len() as u64;
    assert_eq!((entry.target.as_str(), entry.verdict, entry.why.as_str()), ("site.example:443", Verdict::Allowed, "*"));
    assert_eq!((entry.count, entry.sent, entry.received), (2, 2 * length, 20));
    assert_eq!(entry.address.as_deref(), Some("8.8.8.8:443"));
}

#[tokio::test]
async fn a_refusal_says_why_in_the_guests_protocol() {
    let world = World::new(Policy { allow: rules(&["*.example"]), deny: rules(&["bad.example"]), ..Policy::default() });
    world.name("inner.example", &[&["10.1.2.3"]]);
    world.name("own.example", &[&["9.9.9.9"]]);
    world.name("closed.example", &[&["8.8.4.4"]]);
    let targets = [
        "other.org:443",
        "bad.example:443",
        "a.example:25",
        "inner.example:443",
        "own.example:80",
        "gone.example:443",
        "closed.example:443",
        "169.254.169.254:80",
        "0x7f.1:80",
        "[::ffff:127.0.0.1]:443",
        "a b.example:443",
        "localhost:80",
        "a.example",
    ];
    let mut lines = Vec::new();
    for target in targets {
        let mut guest = world.says(format!("CONNECT {target} HTTP/1.1\r\n\r\n").as_bytes()).await;
        let answer = guest.read_to_end().await;
        lines
            .push(format!("{target} -> {}", answer.lines().next().unwrap_or_default().trim_start_matches("HTTP/1.1 ")));
    }
    insta::assert_snapshot!(lines.join("\n"), @"
    other.org:443 -> 403 Forbidden: `other.org:443` is not in `allow` of profile `linux`
    bad.example:443 -> 403 Forbidden: `bad.example:443` is in `deny` of profile `linux`, as `bad.example`
    a.example:25 -> 403 Forbidden: `a.example:25`: profile `linux` allows ports 80, 443
    inner.example:443 -> 403 Forbidden: `inner.example:443` leads to 10.1.2.3, and it is a private address
    own.example:80 -> 403 Forbidden: `own.example:80` leads to 9.9.9.9, and it is an address of the runner's host
    gone.example:443 -> 502 Bad Gateway: `gone.example` has no address
    closed.example:443 -> 502 Bad Gateway: `closed.example:443` does not answer: connection refused
    169.254.169.254:80 -> 403 Forbidden: `169.254.169.254:80` is an address, and not in `allow_addresses` of profile `linux`
    0x7f.1:80 -> 403 Forbidden: `127.0.0.1:80` is an address, and not in `allow_addresses` of profile `linux`
    [::ffff:127.0.0.1]:443 -> 403 Forbidden: `[::ffff:127.0.0.1]:443` is an address, and not in `allow_addresses` of profile `linux`
    a b.example:443 -> 400 Bad Request: this is no CONNECT request
    localhost:80 -> 403 Forbidden: `localhost:80` is not in `allow` of profile `linux`
    a.example -> 400 Bad Request: `a.example` is not a host and port
    ");
    for (host, reply) in
        [("other.org", 2), ("inner.example", 2), ("gone.example", 4), ("closed.example", 5), ("127.1", 2), ("a b", 2)]
    {
        let mut guest = world.says(&socks(host, 443)).await;
        assert_eq!(guest.read(12).await[..4], [5, 0, 5, reply], "{host}");
    }
    let mut guest = world.says(&[5, 1, 2]).await;
    assert_eq!(guest.read_to_end().await.as_bytes()[..1], [5], "a password is not asked for");
    assert_eq!(world.connected(), ["8.8.4.4:443", "8.8.4.4:443"]);
}

#[tokio::test]
async fn only_what_was_judged_is_connected_to_however_names_move() {
    let world = World::new(Policy::default());
    world.name("moving.example", &[&["8.8.8.8"], &["127.0.0.1"], &["10.0.0.1", "8.8.8.8", "::1"]]);
    let site = world.listener("8.8.8.8:443").await;
    let connect = b"CONNECT moving.example:443 HTTP/1.1\r\n\r\n";
    let mut first = world.says(connect).await;
    assert_eq!(first.head().await, ESTABLISHED);
    drop(accept(&site).await);
    let mut second = world.says(connect).await;
    assert!(second.read_to_end().await.starts_with("HTTP/1.1 403 "), "the second answer is judged as well");
    let mut third = world.says(connect).await;
    assert_eq!(third.head().await, ESTABLISHED);
    drop(accept(&site).await);
    assert_eq!(world.connected(), ["8.8.8.8:443", "8.8.8.8:443"]);
}

#[tokio::test]
async fn the_service_itself_is_out_of_reach_whatever_is_listed() {
    let allow = ["127.0.0.0/8", "9.9.9.9"].map(|text| Network::parse(text).unwrap()).to_vec();
    let addresses = Addresses { allow, deny: Vec::new() };
    let world = World::new(Policy { ports: vec![8080, 8081], addresses, ..Policy::default() });
    world.name("local.example", &[&["127.0.0.1"]]);
    world.name("own.example", &[&["9.9.9.9"]]);
    for (target, status) in
        [("local.example:8080", 403), ("own.example:8080", 403), ("127.0.0.2:8080", 403), ("local.example:8081", 502)]
    {
        let mut guest = world.says(format!("CONNECT {target} HTTP/1.1\r\n\r\n").as_bytes()).await;
        let answer = guest.read_to_end().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {answer}");
    }
    assert_eq!(world.connected(), ["127.0.0.1:8081"]);
}

#[tokio::test]
async fn tls_must_be_for_the_server_that_was_asked_for() {
    let world = World::new(Policy::default());
    let site = world.site().await;
    for (bytes, alert) in
        [(hello("other.example"), true), (client_hello(&[], 99), true), (b"GET / HTTP/1.1\r\n\r\n".to_vec(), false)]
    {
        let mut guest = world.says(&[CONNECT, &bytes].concat()).await;
        assert_eq!(guest.head().await, ESTABLISHED);
        let mut upstream = accept(&site).await;
        let expected: &[u8] = if alert { &[21, 3, 1, 0, 2, 2, 112] } else { &[] };
        assert_eq!(guest.read_to_end().await.as_bytes(), expected);
        assert_eq!(upstream.read(&mut [0; 9]).await.unwrap_or(0), 0, "nothing of it is passed on");
    }
    let shown: Vec<String> =
        world.verdicts().await.into_iter().map(|(verdict, why)| format!("{verdict:?} {why}")).collect();
    insta::assert_snapshot!(shown.join("\n"), @"
    Refused site.example:443: `site.example:443`: TLS for another server, `other.example`
    Refused site.example:443: `site.example:443`: TLS without a server name
      hint: the client must send the name that it connects to
    Refused site.example:443: `site.example:443`: only TLS may be spoken on port 443
    ");
}

#[tokio::test]
async fn servers_that_speak_first_are_heard_before_the_guest_says_anything() {
    let world = World::new(Policy { ports: vec![22], ..Policy::default() });
    world.name("site.example", &[&["8.8.8.8"]]);
    let site = world.listener("8.8.8.8:22").await;
    let mut guest = world.says(b"CONNECT site.example:22 HTTP/1.1\r\n\r\n").await;
    assert_eq!(guest.head().await, ESTABLISHED);
    let mut upstream = accept(&site).await;
    upstream.write_all(b"SSH-2.0-x\r\n").await.unwrap();
    assert_eq!(guest.read(11).await, b"SSH-2.0-x\r\n");
    guest.stream.write_all(b"SSH-2.0-y\r\n").await.unwrap();
    assert_eq!(read_exactly(&mut upstream, 11).await, b"SSH-2.0-y\r\n");
}

#[tokio::test]
async fn audit_lets_lists_pass_and_nothing_else() {
    let world = World::new(Policy { allow: rules(&["a.example"]), audit: true, ..Policy::default() });
    let site = world.site().await;
    world.name("inner.example", &[&["192.168.1.1"]]);
    let mut guest = world.says(&[CONNECT, &hello("other.example")].concat()).await;
    assert_eq!(guest.head().await, ESTABLISHED);
    let mut upstream = accept(&site).await;
    assert_eq!(read_exactly(&mut upstream, 5).await[0], 22);
    drop((guest, upstream));
    let mut guest = world.says(b"CONNECT inner.example:443 HTTP/1.1\r\n\r\n").await;
    assert!(guest.read_to_end().await.starts_with("HTTP/1.1 403 "));
    let log = world.log().await;
    assert_eq!((log.count(Verdict::Audited), log.count(Verdict::Refused), log.entries.len()), (1, 1, 2), "{log:?}");
}
