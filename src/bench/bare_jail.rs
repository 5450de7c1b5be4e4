//! The baseline of Firecracker: the same jail, load and resume by hand, as short as it can be written. Copies the disk, links the
//! files, starts the jailer, makes two requests, kills it. Straight-line blocking code with no lease, no cgroup, no pipes for
//! the log and no service around it, but of the same files and arguments.

use std::io::{self, Read, Write};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::host::disk::{copy_sparse, create_sparse};
use crate::host::process::{Lifetime, Spawn, find_program, spawn_blocking};
use crate::vm::firecracker::api::{self, Call};
use crate::vm::firecracker::argv::{Jailer, arguments};
use crate::vm::firecracker::{Programs, files};
use crate::vm::machine::Template;
use crate::vm::spec::Disks;

/// The VM's name, and the user that it runs as.
const NAME: &str = "bare-restore";
const OWNER: u32 = 900_000;

/// Between two looks for the API, and for how long it is looked for.
const LOOK: Duration = Duration::from_micros(500);
const LOOKS: usize = 20_000;

/// Restores once in `directory`, which must be empty, and gives the time until the guest runs.
pub fn resume(template: &Template, programs: &Programs, directory: &Path) -> io::Result<Duration> {
    let executable = find_program(&programs.firecracker).ok_or(io::ErrorKind::NotFound)?.canonicalize()?;
    let began = Instant::now();
    let base = directory.join("jail");
    let root = base.join(executable.file_name().unwrap_or_default()).join(NAME).join("root");
    std::fs::create_dir_all(&root)?;
    furnish(template, directory, &root)?;
    let largest_file = (template.shape.memory_mib.max(template.shape.disk_mib)) << 20;
    let jailer = Jailer { id: NAME, executable: &executable, owner: OWNER, group: OWNER, base: &base, largest_file };
    let mut child = spawn_blocking(&Spawn {
        program: &programs.jailer,
        arguments: &arguments(&jailer),
        directory,
        inherited: &[],
        output: std::fs::File::create(directory.join("output"))?,
        lifetime: Lifetime::EndsWithUs,
    })?;
    let resumed = connect(&root).and_then(|mut socket| {
        request(&mut socket, &api::load())?;
        request(&mut socket, &api::resume())
    });
    let elapsed = began.elapsed();
    child.kill()?;
    child.wait()?;
    resumed.map(|()| elapsed)
}

fn furnish(template: &Template, directory: &Path, root: &Path) -> io::Result<()> {
    let scratch = directory.join("scratch");
    copy_sparse(&template.scratch, &scratch)?;
    let disks = Disks {
        root: template.root.clone(),
        layer: template.layer.clone(),
        scratch,
        cache: Some(template.cache_placeholder.clone()),
        fill: None,
    };
    for disk in files::in_order(&disks) {
        let place = root.join(disk.id);
        match disk.file {
            Some(file) => std::fs::hard_link(file, &place)?,
            None => create_sparse(&place, 4096)?,
        }
        if !disk.is_read_only {
            chown(&place, Some(OWNER), Some(OWNER))?;
        }
    }
    std::fs::hard_link(&template.memory, root.join(files::MEMORY))?;
    std::fs::hard_link(&template.state, root.join(files::STATE))
}

fn connect(root: &Path) -> io::Result<UnixStream> {
    // By a short way: the path may be longer than an address may be.
    let root = std::fs::File::open(root)?;
    let socket = format!("/proc/self/fd/{}/{}", std::os::fd::AsRawFd::as_raw_fd(&root), files::API);
    for _ in 1..LOOKS {
        match UnixStream::connect(&socket) {
            Ok(socket) => return Ok(socket),
            Err(_) => sleep(LOOK),
        }
    }
    UnixStream::connect(&socket)
}

fn request(socket: &mut UnixStream, call: &Call) -> io::Result<()> {
    let body = call.body.to_string();
    let length = body.len();
    let head = format!("{} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n", call.name());
    socket.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes())?;
    let mut answer = [0; 4096];
    let length = socket.read(&mut answer)?;
    if answer[..length].starts_with(b"HTTP/1.1 204") {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&answer[..length]).into_owned()))
}
