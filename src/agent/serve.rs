//! Requests of the host, each on a thread of its own.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde::Serialize;

use super::boot::Machine;
use super::channel::{Channel, Stream};
use super::exec::{self, Running};
use super::processes::Processes;
use super::{files, identity, tunnel, volume};
use crate::protocol::message::{Request, answer_record, decode};

struct Agent {
    processes: Arc<Processes>,
    running: Running,
    bulk: Arc<Channel>,
    ports: tunnel::Ports,
    scratch: std::fs::File,
}

/// Serves both ports until one fails, which is the end of the guest.
pub(super) fn serve(machine: Machine) -> io::Error {
    match try_serve(machine) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn try_serve(machine: Machine) -> io::Result<Infallible> {
    identity::prepare()?;
    let processes = Processes::start()?;
    let control = Channel::new()?;
    let bulk = Channel::new()?;
    let bulk_reader = Arc::clone(&bulk);
    let bulk_line = machine.bulk;
    thread::Builder::new().name("bulk".into()).spawn(move || {
        // The host opens nothing here; dropping a stream resets it.
        bulk_reader.read_line(&bulk_line, |stream, _| drop(stream))
    })?;
    let (running, ports) = Default::default();
    let agent = Arc::new(Agent { processes, running, bulk, ports, scratch: machine.scratch });
    control.read_line(&machine.control, move |stream, request| {
        if let Ok(Request::Identify(who)) = decode(&request) {
            // Here and now: whatever the host asks next must find a machine that is somebody.
            drop(answer(&stream, identity::assume(&who, &agent.scratch)));
            return;
        }
        if let Ok(Request::Signal { stream: target, signal }) = decode(&request) {
            // Here too: when there are too many processes for another thread, this is what ends some.
            drop(answer(&stream, agent.running.signal(target, signal).map_err(io::Error::other)));
            return;
        }
        agent.handle_on_thread(stream, request);
    })
}

impl Agent {
    /// Requests may wait for the host or for programs, and must not keep others from being taken.
    fn handle_on_thread(self: &Arc<Self>, stream: Stream, request: Vec<u8>) {
        let task = Arc::new(Mutex::new(Some((stream, request))));
        let take = |task: &Mutex<Option<_>>| task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (agent, for_thread) = (Arc::clone(self), Arc::clone(&task));
        let started = thread::Builder::new().name("request".into()).spawn(move || {
            // What fails here has lost its stream, and the host sees that.
            take(&for_thread).map(|(stream, request)| agent.handle(stream, &request))
        });
        if let Err(error) = started
            && let Some((stream, request)) = take(&task)
        {
            drop(refuse(&stream, &request, &error));
        }
    }

    fn handle(&self, stream: Stream, request: &[u8]) -> io::Result<()> {
        match decode::<Request>(request).map_err(io::Error::other)? {
            Request::Exec { length } => exec::run(stream, length, &self.processes, &self.running),
            Request::Identify(_) | Request::Signal { .. } => Err(io::Error::other("it is answered where it arrives")),
            Request::WriteFile { path, mode, owner } => answer(&stream, files::write(&path, mode, owner, &stream)),
            Request::MakeDirectory { path, owner } => answer(&stream, files::make_directory(&path, owner)),
            Request::ReadFile { path, limit } => answer(&stream, files::read(&path, limit)),
            Request::Listen { port, service } => {
                answer(&stream, self.ports.listen(port, service, Arc::clone(&self.bulk)))
            }
            Request::SealVolume { target } => answer(&stream, volume::seal(&target)),
            Request::Sync { unmount } => answer(&stream, files::sync(&self.scratch, unmount)),
        }
    }
}

/// Says that there was no thread to do it. A stream that was just opened has room for so few words.
fn refuse(stream: &Stream, request: &[u8], why: &io::Error) -> io::Result<()> {
    match decode::<Request>(request) {
        Ok(Request::Exec { .. }) => exec::refuse(stream, why),
        _ => answer::<()>(stream, Err(exec::no_thread(why))),
    }
}

fn answer<T: Serialize>(stream: &Stream, result: io::Result<T>) -> io::Result<()> {
    stream.write_all(&answer_record(&result.map_err(|error| error.to_string())))?;
    stream.end()
}
