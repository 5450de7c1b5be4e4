//! A Firecracker for tests: as strict as the real one in what it takes in which state, and its files are real. It listens in the
//! jail that a [`Jail`](super::jail::Jail) makes, and a script in the jailer's place is its process.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::{Programs, schema};
use crate::vm::home::Home;

const AFTER_START: &str = "The requested operation is not supported after starting the microVM.";
const BEFORE_START: &str = "The requested operation is not supported before starting the microVM.";

/// The jailer: a process that ends when, and how, the fake wants it to.
const JAILER: &str = "#!/bin/sh\n\
    while [ $# -gt 0 ]; do case $1 in --chroot-base-dir) base=$2 ;; esac; shift; done\n\
    echo 'jailed'; read code < \"$base/end\"; exit \"$code\"\n";

/// A jailer that fails as the real one does.
const BROKEN_JAILER: &str = "#!/bin/sh\necho 'Error: no such group' >&2; exit 1\n";

/// What the machine is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    NotStarted,
    Running,
    Paused,
    Dead,
}

#[derive(Debug)]
struct Machine {
    state: State,
    has_kernel: bool,
    is_configured: bool,
    drives: Vec<String>,
    vsock: Option<String>,
    calls: Vec<String>,
}

/// The fake, as long as it is kept.
#[derive(Debug, Clone)]
pub(super) struct Fake {
    root: PathBuf,
    machine: Arc<Mutex<Machine>>,
    /// The call that fails as if the host had no room, if one does.
    without_room: Arc<Mutex<Option<String>>>,
    /// How many calls on the vsock end before one is taken.
    deaf_calls: Arc<Mutex<usize>>,
}

/// Programs that do for Firecracker and its jailer.
pub(super) fn programs(directory: &Path) -> Programs {
    with_jailer(directory, JAILER)
}

pub(super) fn broken_programs(directory: &Path) -> Programs {
    with_jailer(directory, BROKEN_JAILER)
}

fn with_jailer(directory: &Path, script: &str) -> Programs {
    for (name, content) in [("firecracker", "the fake needs no program"), ("jailer", script)] {
        fs::write(directory.join(name), content).unwrap();
        fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    Programs::beside(&directory.join("firecracker"))
}

impl Fake {
    /// Listens where the Firecracker of `home` would.
    pub(super) fn of(home: &Home) -> Self {
        let base = home.path().join("jail");
        let root = base.join("firecracker").join(home.marker()).join("root");
        fs::create_dir_all(&root).unwrap();
        nix::unistd::mkfifo(&base.join("end"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let machine = Machine {
            state: State::NotStarted,
            has_kernel: false,
            is_configured: false,
            drives: Vec::new(),
            vsock: None,
            calls: Vec::new(),
        };
        let fake = Self {
            root,
            machine: Arc::new(Mutex::new(machine)),
            without_room: Arc::default(),
            deaf_calls: Arc::default(),
        };
        let listener = UnixListener::bind(fake.root.join("api.sock")).unwrap();
        tokio::spawn(fake.clone().serve(listener));
        fake
    }

    /// The calls that came, as `METHOD path`.
    pub(super) fn calls(&self) -> Vec<String> {
        self.machine.lock().unwrap().calls.clone()
    }

    /// Has `call` fail for want of room.
    pub(super) fn leave_no_room_for(&self, call: &str) {
        *self.without_room.lock().unwrap() = Some(call.to_owned());
    }

    /// Has the guest not take the next calls on its vsock.
    pub(super) fn ignore_calls(&self, count: usize) {
        *self.deaf_calls.lock().unwrap() = count;
    }

    /// Has the process end.
    pub(super) fn end(&self, code: u8) {
        self.machine.lock().unwrap().state = State::Dead;
        let end = self.root.ancestors().nth(3).unwrap().join("end");
        fs::write(end, format!("{code}\n")).unwrap();
    }

    async fn serve(self, listener: UnixListener) {
        while let Ok((socket, _)) = listener.accept().await {
            let fake = self.clone();
            let service = service_fn(move |request| fake.clone().answer(request));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let call = format!("{} {}", request.method(), request.uri().path());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let answered = match serde_json::from_slice(&body) {
            Ok(body) => self.take(&call, &body),
            Err(error) => Err(format!("An error occurred when deserializing the json body of a request: {error}.")),
        };
        let mut response = Response::new(Full::default());
        match answered {
            Ok(()) => *response.status_mut() = StatusCode::NO_CONTENT,
            Err(fault) => {
                *response.status_mut() = StatusCode::BAD_REQUEST;
                *response.body_mut() = Full::from(json!({ "fault_message": fault }).to_string());
            }
        }
        Ok(response)
    }

    /// What a request comes to.
    pub(super) fn take(&self, call: &str, body: &Value) -> Result<(), String> {
        let mut machine = self.machine.lock().unwrap();
        machine.calls.push(call.to_owned());
        if machine.state == State::Dead {
            return Err("it is dead".to_owned());
        }
        schema::check(call, body)?;
        if self.without_room.lock().unwrap().as_deref() == Some(call) {
            return Err("Cannot write the file: No space left on device (os error 28)".to_owned());
        }
        let is_started = machine.state != State::NotStarted;
        match call {
            "PATCH /vm" | "PUT /snapshot/create" if !is_started => return Err(BEFORE_START.to_owned()),
            "PATCH /vm" | "PUT /snapshot/create" => {}
            _ if is_started => return Err(AFTER_START.to_owned()),
            _ => {}
        }
        let done = match call {
            "PATCH /vm" => {
                machine.state = if body["state"] == "Paused" { State::Paused } else { State::Running };
                Ok(())
            }
            "PUT /snapshot/create" => self.save(&machine, body),
            "PUT /snapshot/load" => self.load(&mut machine, body),
            "PUT /actions" => self.start(&mut machine),
            _ => self.configure(&mut machine, call, body),
        };
        if done.is_err() && call == "PUT /snapshot/load" && !machine.is_configured {
            drop(machine);
            // It considers itself too damaged to go on.
            self.end(1);
        }
        done
    }

    fn file(&self, inside: &Value) -> PathBuf {
        self.root.join(inside.as_str().unwrap().trim_start_matches('/'))
    }

    fn configure(&self, machine: &mut Machine, call: &str, body: &Value) -> Result<(), String> {
        machine.is_configured = true;
        let missing = |what: &str, path: &Value| {
            let there = self.file(path).is_file();
            if there { Ok(()) } else { Err(format!("{what}: No such file or directory (os error 2) {path}")) }
        };
        match call {
            "PUT /boot-source" => {
                missing("Boot source error: The kernel file cannot be opened", &body["kernel_image_path"])?;
                missing("Boot source error: The initrd file cannot be opened", &body["initrd_path"])?;
                machine.has_kernel = true;
            }
            "PUT /vsock" => machine.vsock = Some(body["uds_path"].as_str().unwrap().to_owned()),
            _ if call.starts_with("PUT /drives/") => {
                missing("Drive config error: Error manipulating the backing file", &body["path_on_host"])?;
                machine.drives.push(body["path_on_host"].as_str().unwrap().to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    fn start(&self, machine: &mut Machine) -> Result<(), String> {
        if !machine.has_kernel {
            return Err("Start microvm error: Cannot start microvm without kernel configuration.".to_owned());
        }
        self.listen(machine)?;
        machine.state = State::Running;
        Ok(())
    }

    fn save(&self, machine: &Machine, body: &Value) -> Result<(), String> {
        if machine.state != State::Paused {
            let why = "Operation not allowed: save/restore unavailable while running";
            return Err(format!("Create snapshot error: Cannot save the microVM state: {why}"));
        }
        let state = json!({ "drives": machine.drives, "vsock": machine.vsock });
        fs::write(self.file(&body["snapshot_path"]), state.to_string()).map_err(|error| error.to_string())?;
        fs::write(self.file(&body["mem_file_path"]), vec![0; 1 << 20]).map_err(|error| error.to_string())
    }

    fn load(&self, machine: &mut Machine, body: &Value) -> Result<(), String> {
        if machine.is_configured {
            let why = "Loading a microVM snapshot not allowed after configuring boot-specific resources.";
            return Err(format!("Load snapshot error: {why}"));
        }
        let failed = |why: &str| format!("Load snapshot error: Failed to restore from snapshot: {why}");
        let state =
            fs::read_to_string(self.file(&body["snapshot_path"])).map_err(|error| failed(&error.to_string()))?;
        let state: Value = serde_json::from_str(&state)
            .map_err(|_| failed("Failed to get snapshot state from file: bitcode error"))?;
        let files = state["drives"].as_array().unwrap().iter().chain([&body["mem_backend"]["backend_path"]]);
        for file in files {
            fs::metadata(self.file(file)).map_err(|error| failed(&format!("{error} {file}")))?;
        }
        machine.vsock = state["vsock"].as_str().map(str::to_owned);
        machine.drives =
            state["drives"].as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned()).collect();
        self.listen(machine)?;
        machine.state = State::Paused;
        Ok(())
    }

    /// The vsock is there once the machine is; its guest answers while it runs.
    fn listen(&self, machine: &Machine) -> Result<(), String> {
        let Some(path) = &machine.vsock else { return Ok(()) };
        let listener =
            UnixListener::bind(self.file(&json!(path))).map_err(|error| format!("Cannot create the vsock: {error}"))?;
        let fake = self.clone();
        tokio::spawn(async move {
            while let Ok((call, _)) = listener.accept().await {
                tokio::spawn(fake.clone().take_call(call));
            }
        });
        Ok(())
    }

    /// A guest whose agent answers an attach with itself, which is what agents do.
    async fn take_call(self, mut call: UnixStream) {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            line.push(call.read_u8().await.unwrap());
        }
        let is_deaf = {
            let mut deaf = self.deaf_calls.lock().unwrap();
            let is_deaf = *deaf > 0;
            *deaf = deaf.saturating_sub(1);
            is_deaf
        };
        let is_running = self.machine.lock().unwrap().state == State::Running;
        let listens = line == b"CONNECT 1024\n" || line == b"CONNECT 1025\n";
        if is_deaf || !is_running || !listens {
            return;
        }
        call.write_all(b"OK 1073741824\n").await.unwrap();
        let (mut reader, mut writer) = call.split();
        tokio::io::copy(&mut reader, &mut writer).await.ok();
    }
}
