//! Ports of the guest whose connections end on the host.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::channel::{Channel, Stream};
use crate::protocol::frame::MAX_PAYLOAD;
use crate::protocol::message::{AgentRequest, Service, encode};

/// The ports that are listened on. A clone of a machine that had some is asked for them again.
#[derive(Default)]
pub(super) struct Ports(Mutex<HashMap<u16, Service>>);

impl Ports {
    /// Listens on `port` and forwards each connection over the bulk channel until the guest ends.
    pub(super) fn listen(&self, port: u16, service: Service, bulk: Arc<Channel>) -> io::Result<()> {
        let mut ports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ports.get(&port) != Some(&service) {
            listen(port, service, bulk)?;
            ports.insert(port, service);
        }
        Ok(())
    }
}

fn listen(port: u16, service: Service, bulk: Arc<Channel>) -> io::Result<()> {
    // Containers of the guest come from bridges of its own. Nobody else does: the host lets nothing in to a card.
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    thread::Builder::new().name("listen".into()).spawn(move || {
        for connection in listener.incoming().flatten() {
            let bulk = Arc::clone(&bulk);
            // Without a stream or a thread the connection is closed, which its program sees.
            drop(thread::Builder::new().name("tunnel".into()).spawn(move || forward(connection, service, &bulk)));
        }
    })?;
    Ok(())
}

fn forward(connection: TcpStream, service: Service, bulk: &Arc<Channel>) -> io::Result<()> {
    let stream = Arc::new(bulk.open(encode(&AgentRequest::Connected { service }))?);
    let (outgoing, upstream) = (connection.try_clone()?, Arc::clone(&stream));
    let sender = thread::Builder::new().name("tunnel-out".into()).spawn(move || send(outgoing, &upstream))?;
    let received = receive(&connection, &stream);
    // Whatever ended the receiving half, the connection's program shall see it.
    drop(connection.shutdown(Shutdown::Write));
    drop(sender.join());
    received
}

fn send(mut connection: TcpStream, stream: &Stream) -> io::Result<()> {
    let mut buffer = vec![0; MAX_PAYLOAD];
    loop {
        match connection.read(&mut buffer)? {
            0 => return stream.end(),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

fn receive(mut connection: &TcpStream, stream: &Stream) -> io::Result<()> {
    while let Some(bytes) = stream.read()? {
        connection.write_all(&bytes)?;
    }
    Ok(())
}
