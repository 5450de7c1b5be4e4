//! The proxy against a network in which tests say what names mean, with real connections on loopback.
#![allow(clippy::unwrap_used)]

mod http;
mod limits;
mod nat;
mod tunnels;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::Egress;
use super::log::{EgressLog, Verdict};
use super::network::Network;
use super::policy::{Policy, Scope};
use super::rules::Rule;

/// The longest that these tests wait for anything.
const DEADLINE: Duration = Duration::from_secs(20);

/// Where names and addresses lead.
#[derive(Debug, Default)]
struct Fake {
    /// The answers about a name, one after the other; the last one stays.
    names: Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>,
    /// Who really listens where a public address is connected to.
    doors: Mutex<HashMap<SocketAddr, SocketAddr>>,
    /// What was connected to.
    connected: Mutex<Vec<SocketAddr>>,
}

impl Network for Fake {
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let mut names = self.names.lock().unwrap();
        let answer = names.get_mut(name).map(|answers| match answers.len() {
            1 => answers[0].clone(),
            _ => answers.pop_front().unwrap(),
        });
        async move { answer.ok_or_else(|| io::Error::other("no such name")) }.boxed()
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> {
        self.connected.lock().unwrap().push(address);
        let door = self.doors.lock().unwrap().get(&address).copied();
        async move {
            match door {
                Some(door) => TcpStream::connect(door).await,
                None => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        }
        .boxed()
    }

    fn own_addresses(&self) -> io::Result<Vec<IpAddr>> {
        Ok(vec!["9.9.9.9".parse().unwrap()])
    }

    fn is_served(&self, port: u16) -> bool {
        port == 8080
    }
}

/// A proxy and the world behind it.
struct World {
    egress: Egress,
    network: Arc<Fake>,
}

impl World {
    fn new(policy: Policy) -> Self {
        let network = Arc::<Fake>::default();
        let egress = Egress::new(
            Scope::of("profile `linux`", policy),
            Arc::clone(&network) as Arc<dyn Network>,
            Default::default(),
        );
        Self { egress, network }
    }

    /// Says what a name's look-ups answer.
    fn name(&self, name: &str, answers: &[&[&str]]) {
        let answers = answers.iter().map(|list| list.iter().map(|text| text.parse().unwrap()).collect()).collect();
        self.network.names.lock().unwrap().insert(name.to_owned(), answers);
    }

    /// Somebody who listens at `address`.
    async fn listener(&self, address: &str) -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.network.doors.lock().unwrap().insert(address.parse().unwrap(), listener.local_addr().unwrap());
        listener
    }

    /// `site.example`, on port 443 of a public address.
    async fn site(&self) -> TcpListener {
        self.name("site.example", &[&["8.8.8.8"]]);
        self.listener("8.8.8.8:443").await
    }

    /// A guest's connection that has sent this.
    async fn says(&self, bytes: &[u8]) -> Guest {
        let (mut near, far) = tokio::io::duplex(1 << 16);
        let egress = self.egress.clone();
        let serving = tokio::spawn(async move { egress.serve_connection(far).await });
        near.write_all(bytes).await.unwrap();
        Guest { stream: near, serving }
    }

    fn connected(&self) -> Vec<String> {
        self.network.connected.lock().unwrap().iter().map(ToString::to_string).collect()
    }

    /// The log when everything has ended, without times.
    async fn log(&self) -> EgressLog {
        tokio::time::timeout(DEADLINE, async {
            self.egress.0.open.close();
            self.egress.0.open.wait().await;
        })
        .await
        .unwrap();
        self.egress.log()
    }

    /// `(verdict, target, why)` of the log.
    async fn verdicts(&self) -> Vec<(Verdict, String)> {
        let entries = self.log().await.entries.into_iter();
        entries.map(|entry| (entry.verdict, format!("{}: {}", entry.target, entry.why))).collect()
    }
}

/// The guest's end of a connection.
struct Guest {
    stream: DuplexStream,
    serving: JoinHandle<()>,
}

impl Guest {
    async fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        tokio::time::timeout(DEADLINE, self.stream.read_exact(&mut bytes)).await.unwrap().unwrap();
        bytes
    }

    async fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        tokio::time::timeout(DEADLINE, self.stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads the head of an answer.
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.read(1).await);
        }
        String::from_utf8(head).unwrap()
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    tokio::time::timeout(DEADLINE, listener.accept()).await.unwrap().unwrap().0
}

async fn read_exactly(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
    bytes
}

fn rules(list: &[&str]) -> Vec<Rule> {
    list.iter().map(|text| Rule::parse(text).unwrap()).collect()
}
