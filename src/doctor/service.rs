//! Whether the service can listen, whether one runs already, and whether webhooks arrive.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::finding::Finding;
use super::subject::Subject;
use crate::clock;
use crate::store::Store;

/// How long a service that listens may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// Bytes of its answer that are read.
const MAX_ANSWER: u64 = 1024;

/// What is at the address of the public listener.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Listener {
    Free,
    /// A Dayfly answers there.
    Dayfly,
    /// Something listens there that is no Dayfly, or does not answer.
    Taken,
    Refused(String),
}

/// What is at the control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Control {
    Running,
    /// The socket of a service that has ended without removing it.
    Left,
    Absent,
    Refused(String),
}

/// When the last webhook came, in milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Webhooks {
    NoStore,
    Never,
    Last(i64),
    Unreadable(String),
}

pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    let Some(config) = subject.configuration.config() else { return Vec::new() };
    let listen = config.server.listen;
    let control = look_at_control(&config.server.control_socket()).await;
    let webhooks = look_at_store(&config.server.state_dir.join("dayfly.db")).await;
    let public_url = config.server.public_url.as_str();
    vec![
        listener(listen, &look_at(listen).await),
        judge_control(&control),
        judge_webhooks(&webhooks, public_url, clock::now_ms()),
    ]
}

async fn look_at(address: SocketAddr) -> Listener {
    match TcpListener::bind(address).await {
        Ok(_) => Listener::Free,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match tokio::time::timeout(ANSWER_LIMIT, health(address)).await {
                Ok(Ok(true)) => Listener::Dayfly,
                _ => Listener::Taken,
            }
        }
        Err(error) => Listener::Refused(error.to_string()),
    }
}

/// Whether a Dayfly's health page is at the address.
async fn health(address: SocketAddr) -> io::Result<bool> {
    let host =
        if address.ip().is_unspecified() { SocketAddr::new([127, 0, 0, 1].into(), address.port()) } else { address };
    let mut stream = TcpStream::connect(host).await?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.lines().next().is_some_and(|line| line.contains(" 200 ")) && answer.ends_with("\r\n\r\nok\n"))
}

async fn look_at_control(socket: &Path) -> Control {
    match UnixStream::connect(socket).await {
        Ok(_) => Control::Running,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Control::Absent,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Control::Left,
        Err(error) => Control::Refused(error.to_string()),
    }
}

async fn look_at_store(path: &Path) -> Webhooks {
    if !path.is_file() {
        return Webhooks::NoStore;
    }
    match Store::last_delivery_in(path).await {
        Ok(Some(at)) => Webhooks::Last(at),
        Ok(None) => Webhooks::Never,
        Err(error) => Webhooks::Unreadable(error.to_string()),
    }
}

fn listener(address: SocketAddr, found: &Listener) -> Finding {
    const ID: &str = "service.listen";
    let finding = match found {
        Listener::Free => Finding::ok(ID, format!("`{address}` can be listened on")),
        Listener::Dayfly => Finding::ok(ID, format!("a Dayfly answers at `{address}`")),
        Listener::Taken => {
            Finding::problem(ID, format!("`{address}` is taken by a program that does not answer as Dayfly does"))
                .hint(format!("`ss -ltnp 'sport = :{}'` names it; or use another `server.listen`", address.port()))
        }
        Listener::Refused(why) => Finding::problem(ID, format!("`{address}` cannot be listened on: {why}"))
            .hint("ports below 1024 take root; an address must be one of this host's"),
    };
    finding.data("address", address.to_string()).data("dayfly_answers", *found == Listener::Dayfly)
}

fn judge_control(found: &Control) -> Finding {
    const ID: &str = "service.control";
    let finding = match found {
        Control::Running => Finding::ok(ID, "the service runs"),
        Control::Left => {
            Finding::ok(ID, "the service does not run; it has ended without tidying up, which the next one does")
        }
        Control::Absent => Finding::ok(ID, "the service does not run"),
        Control::Refused(why) => {
            Finding::skipped(ID, format!("whether the service runs cannot be seen: {why}")).hint("run it as root")
        }
    };
    finding.data("running", *found == Control::Running)
}

fn judge_webhooks(found: &Webhooks, public_url: &str, now: i64) -> Finding {
    const ID: &str = "service.webhooks";
    let unknown = |title: &str| {
        Finding::skipped(ID, title)
            .detail(format!("whether the forge reaches `{public_url}` cannot be seen from this host"))
            .hint("redeliver the `ping` in the webhook's or App's settings at the forge, under \"Recent deliveries\": its answer must be 2xx")
    };
    match found {
        Webhooks::Last(at) => {
            Finding::ok(ID, format!("the last webhook came {} ago", ago(now - at))).data("last_ms", *at)
        }
        Webhooks::NoStore => unknown("the service has not run here yet"),
        Webhooks::Never => unknown("no webhook has come yet"),
        Webhooks::Unreadable(why) => Finding::skipped(ID, "the store cannot be read").detail(why.as_str()),
    }
}

/// A time span in its largest unit.
fn ago(ms: i64) -> String {
    let units = [(86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1000, "second")];
    let (size, unit) = units.into_iter().find(|(size, _)| ms >= *size).unwrap_or((1000, "second"));
    let count = usize::try_from(ms / size).unwrap_or(0);
    super::counted(count, unit, &format!("{unit}s"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::finding::sketch;
    use super::*;

    #[test]
    fn everything_that_can_be_in_the_way_has_its_words() {
        let address = "127.0.0.1:8080".parse().unwrap();
        let listeners =
            [Listener::Free, Listener::Dayfly, Listener::Taken, Listener::Refused("Permission denied".into())];
        let controls = [Control::Running, Control::Left, Control::Absent, Control::Refused("Permission denied".into())];
        let webhooks = [Webhooks::NoStore, Webhooks::Never, Webhooks::Last(0), Webhooks::Unreadable("damaged".into())];
        let mut findings: Vec<Finding> = listeners.iter().map(|found| listener(address, found)).collect();
        findings.extend(controls.iter().map(judge_control));
        findings.extend(webhooks.iter().map(|found| judge_webhooks(found, "https://ci.example.org/", 7_300_000)));
        insta::assert_snapshot!(sketch(&findings), @r#"
        ok service.listen: `127.0.0.1:8080` can be listened on
        ok service.listen: a Dayfly answers at `127.0.0.1:8080`
        problem service.listen: `127.0.0.1:8080` is taken by a program that does not answer as Dayfly does
            -> `ss -ltnp 'sport = :8080'` names it; or use another `server.listen`
        problem service.listen: `127.0.0.1:8080` cannot be listened on: Permission denied
            -> ports below 1024 take root; an address must be one of this host's
        ok service.control: the service runs
        ok service.control: the service does not run; it has ended without tidying up, which the next one does
        ok service.control: the service does not run
        skipped service.control: whether the service runs cannot be seen: Permission denied
            -> run it as root
        skipped service.webhooks: the service has not run here yet
            whether the forge reaches `https://ci.example.org/` cannot be seen from this host
            -> redeliver the `ping` in the webhook's or App's settings at the forge, under "Recent deliveries": its answer must be 2xx
        skipped service.webhooks: no webhook has come yet
            whether the forge reaches `https://ci.example.org/` cannot be seen from this host
            -> redeliver the `ping` in the webhook's or App's settings at the forge, under "Recent deliveries": its answer must be 2xx
        ok service.webhooks: the last webhook came 2 hours ago
        skipped service.webhooks: the store cannot be read
            damaged
        "#);
    }

    #[tokio::test]
    async fn a_stranger_at_the_address_is_not_taken_for_dayfly() {
        let stranger = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = stranger.local_addr().unwrap();
        let answering = async {
            let (mut stream, _) = stranger.accept().await.unwrap();
            stream.write_all(b"HTTP/1.0 404 Not Found\r\n\r\nok\n").await.unwrap();
        };
        let (found, ()) = tokio::join!(look_at(address), answering);
        assert_eq!(found, Listener::Taken);
        drop(stranger);
        assert_eq!(look_at(address).await, Listener::Free);
    }
}
