//! The baseline: the same restore by hand, as short as it can be written. Copies the disk, starts QEMU, loads the state,
//! lets it run, asks the agent to run one command, waits for its status, kills QEMU. Straight-line blocking code with no
//! lease, no cgroup, no identity, no service around it, but of the same image, shape and arguments.

use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::create::command;
use crate::host::disk::copy_sparse;
use crate::host::process::{Lifetime, Spawn};
use crate::protocol::VERSION;
use crate::protocol::frame::{Decoder, Frame, Kind};
use crate::protocol::message::{Exec, Request, encode};
use crate::vm::backend::{AgentLink, Start};
use crate::vm::machine::Template;
use crate::vm::qemu::argv::{Machine, Sockets, arguments};
use crate::vm::spec::Disks;

/// Restores once in `directory`, which must be empty, and gives the time until the command's status.
pub fn restore(template: &Template, directory: &Path) -> io::Result<Duration> {
    let began = Instant::now();
    let mut bare = Bare::start(template, directory)?;
    bare.exec(&command())?;
    let elapsed = began.elapsed();
    bare.end()?;
    Ok(elapsed)
}

/// A VM without anything around it.
pub(super) struct Bare {
    monitor: Child,
    pub(super) control: UnixStream,
    /// Nobody speaks a protocol here: what the guest writes to its port is what arrives.
    pub(super) bulk: UnixStream,
}

impl Bare {
    /// Restores in `directory`, which must be empty, and lets the guest run.
    pub(super) fn start(template: &Template, directory: &Path) -> io::Result<Self> {
        if template.vmm.capabilities().link != AgentLink::VirtioSerial {
            return Err(io::Error::other("this baseline is QEMU's; for Firecracker, `--stage resumed` has one"));
        }
        let scratch = directory.join("scratch");
        copy_sparse(&template.scratch, &scratch)?;
        let listen = |name: &str| UnixListener::bind(directory.join(name));
        let listeners = [listen("monitor")?, listen("control")?, listen("bulk")?];
        let disks = Disks {
            root: template.root.clone(),
            layer: template.layer.clone(),
            scratch,
            cache: Some(template.cache_placeholder.clone()),
            fill: None,
        };
        let machine = Machine {
            name: "bare-restore",
            accelerator: template.accelerator,
            shape: template.shape,
            start: Start::Restore,
            boot: &template.boot,
            disks: &disks,
            memory: &template.memory,
            sockets: Sockets {
                monitor: listeners[0].as_raw_fd(),
                control: listeners[1].as_raw_fd(),
                bulk: listeners[2].as_raw_fd(),
            },
            files: &[],
            tap: None,
        };
        let arguments = arguments(&machine);
        let mut qmp = UnixStream::connect(directory.join("monitor"))?;
        let mut control = UnixStream::connect(directory.join("control"))?;
        let bulk = UnixStream::connect(directory.join("bulk"))?;
        let inherited = listeners.map(Into::into);
        let monitor = crate::host::process::spawn_blocking(&Spawn {
            program: template.vmm.program(),
            arguments: &arguments,
            directory,
            inherited: &inherited,
            output: std::fs::File::create(directory.join("log"))?,
            lifetime: Lifetime::EndsWithUs,
        })?;
        load(&mut qmp, &template.state)?;
        control.write_all(&Frame::attach([1; 16], VERSION).to_bytes())?;
        Ok(Self { monitor, control, bulk })
    }

    /// Runs the one program of this VM and waits for the first that is heard of it: its end, if it prints nothing.
    pub(super) fn exec(&mut self, exec: &Exec) -> io::Result<()> {
        self.request(exec)?;
        self.wait().map(drop)
    }

    /// Has the one program of this VM started.
    pub(super) fn request(&mut self, exec: &Exec) -> io::Result<()> {
        let description = encode(exec);
        let request = encode(&Request::Exec { length: description.len() as u32 });
        self.control.write_all(&Frame { kind: Kind::Open, stream: 1, payload: request }.to_bytes())?;
        self.control.write_all(&Frame { kind: Kind::Data, stream: 1, payload: description }.to_bytes())?;
        self.control.write_all(&Frame::empty(Kind::End, 1).to_bytes())
    }

    /// Waits for the program's first record.
    pub(super) fn wait(&mut self) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::default();
        let mut buffer = [0; 4096];
        loop {
            let length = self.control.read(&mut buffer)?;
            if length == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            decoder.push(&buffer[..length]);
            while let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
                if frame.kind == Kind::Data {
                    return Ok(frame.payload);
                }
            }
        }
    }

    /// Ends the VM.
    pub(super) fn end(mut self) -> io::Result<()> {
        self.monitor.kill()?;
        self.monitor.wait().map(drop)
    }
}

fn load(monitor: &mut UnixStream, state: &Path) -> io::Result<()> {
    let mut lines = BufReader::new(monitor.try_clone()?);
    let mut wait_for = |text: &str| -> io::Result<()> {
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 {
            if line.contains("\"error\"") {
                return Err(io::Error::other(line));
            }
            if line.contains(text) {
                return Ok(());
            }
            line.clear();
        }
        Err(io::Error::from(io::ErrorKind::UnexpectedEof))
    };
    monitor.write_all(b"{\"execute\":\"qmp_capabilities\"}\n")?;
    wait_for("\"return\"")?;
    let file = std::fs::File::open(state)?;
    let getfd = b"{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"state\"}}\n";
    let rights = [file.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&rights)];
    sendmsg::<()>(monitor.as_raw_fd(), &[IoSlice::new(getfd)], &message, MsgFlags::empty(), None)?;
    wait_for("\"return\"")?;
    monitor.write_all(
        b"{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":[\
          {\"capability\":\"x-ignore-shared\",\"state\":true},{\"capability\":\"events\",\"state\":true}]}}\n",
    )?;
    wait_for("\"return\"")?;
    monitor.write_all(b"{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"fd:state\"}}\n")?;
    wait_for("\"completed\"")?;
    monitor.write_all(b"{\"execute\":\"cont\"}\n")?;
    wait_for("\"RESUME\"")
}
