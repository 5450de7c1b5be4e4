//! Plain HTTP.

use super::*;

/// A server of `name` that answers each request with what it was sent, and closes.
async fn echo(world: &World, name: &str, address: &str) {
    world.name(name, &[&[address]]);
    let listener = world.listener(&format!("{address}:80")).await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && !request.ends_with(b"body") {
                request.push(stream.read_u8().await.unwrap());
                if request.ends_with(b"\r\n\r\n") && request.starts_with(b"POST") {
                    request.extend(read_exactly(&mut stream, 4).await);
                }
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nKeep-Alive: 5\r\n\r\n", request.len());
            stream.write_all(&[head.as_bytes(), &request].concat()).await.unwrap();
        }
    });
}

async fn answer(guest: &mut Guest) -> (String, String) {
    let head = guest.head().await;
    let length =
        head.to_lowercase().split("content-length: ").nth(1).and_then(|rest| rest.lines().next().map(str::to_owned));
    let body = guest.read(length.unwrap().parse().unwrap()).await;
    (head, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn each_request_goes_to_its_own_host_on_one_connection() {
    let world = World::new(Policy { deny: rules(&["c.example"]), ..Policy::default() });
    echo(&world, "a.example", "8.8.8.8").await;
    echo(&world, "b.example", "8.8.4.4").await;
    let mut guest = world
        .says(
            b"GET http://user:secret@A.example/x?y=1 HTTP/1.1\r\nHost: evil.example\r\nProxy-Authorization: Basic eA==\r\n\
              Proxy-Connection: keep-alive\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n\r\n\
              POST http://b.example HTTP/1.1\r\nHost: b.example\r\nContent-Length: 4\r\n\r\nbody\
              GET http://c.example/ HTTP/1.1\r\nHost: c.example\r\n\r\n",
        )
        .await;
    let (head, seen) = answer(&mut guest).await;
    assert!(head.starts_with("HTTP/1.1 200 OK") && !head.to_lowercase().contains("keep-alive"), "{head}");
    insta::assert_snapshot!(seen.replace('\r', ""), @"
    GET /x?y=1 HTTP/1.1
    host: a.example
    x-end: 2
    connection: close
    ");
    let (_, seen) = answer(&mut guest).await;
    assert!(seen.starts_with("POST / HTTP/1.1") && seen.ends_with("body"), "{seen}");
    let (head, text) = answer(&mut guest).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert_eq!(text, "dayfly: `c.example:80` is in `deny` of profile `linux`, as `c.example`\n");
    guest.stream.shutdown().await.unwrap();
    guest.serving.await.unwrap();
    assert_eq!(world.connected(), ["8.8.8.8:80", "8.8.4.4:80"]);
    let log = world.log().await;
    assert_eq!((log.count(Verdict::Allowed), log.count(Verdict::Refused)), (2, 1));
}

#[tokio::test]
async fn what_is_no_request_for_a_proxy_is_told_so() {
    let world = World::new(Policy { ports: vec![80, 443], ..Policy::default() });
    echo(&world, "a.example", "8.8.8.8").await;
    let mut lines = Vec::new();
    for target in [
        "/",
        "https://a.example/",
        "ftp://a.example/",
        "http://a.example:443/",
        "http://a.example:0/",
        "http://[::1]/",
        "http://127.1:8080/",
        "http://0x7f000001/",
    ] {
        let mut guest =
            world.says(format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await;
        let text = guest.read_to_end().await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        lines.push(format!("{target} {} {}", &head[9..12], body.trim_end()));
    }
    insta::assert_snapshot!(
        lines.join("\n"),
        @"
    / 400 dayfly: this is a proxy: requests have a whole address, and `http` in it
    https://a.example/ 400 dayfly: this is a proxy: requests have a whole address, and `http` in it
    ftp://a.example/ 400 dayfly: this is a proxy: requests have a whole address, and `http` in it
    http://a.example:443/ 403 dayfly: `a.example:443`: only TLS may be spoken on port 443
    http://a.example:0/ 400 dayfly: `a.example:0` is not a host and port
    http://[::1]/ 403 dayfly: `[::1]:80` is an address, and not in `allow_addresses` of profile `linux`
      hint: ask for the host by its name
    http://127.1:8080/ 403 dayfly: `127.0.0.1:8080` is an address, and not in `allow_addresses` of profile `linux`
      hint: ask for the host by its name
    http://0x7f000001/ 403 dayfly: `127.0.0.1:80` is an address, and not in `allow_addresses` of profile `linux`
      hint: ask for the host by its name
    "
    );
    assert!(world.connected().is_empty());
}
