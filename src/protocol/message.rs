//! What the host asks of the agent, and what is answered.
//!
//! A request is the first message of a stream. Where more than one kind of thing comes back on a stream, it comes in
//! records: a tag byte, a length (`u32`, LE) and that many bytes.

use serde::{Deserialize, Serialize};

/// Opens a stream from host to agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First after every restore: become somebody else than the other clones. Answer: `Result<(), String>`.
    Identify(Identity),
    /// Run a program. The host's first `length` bytes are an encoded [`Exec`], those after them the program's input; the
    /// answer is records of [`Output`].
    Exec { length: u32 },
    /// Send a signal to the process group of the program that runs on that stream. Answer: `Result<(), String>`.
    Signal { stream: u32, signal: i32 },
    /// Store the stream's bytes as a file. Answer: `Result<(), String>`.
    WriteFile { path: String, mode: u32, owner: Owner },
    /// Make a directory and its parents. Answer: `Result<(), String>`.
    MakeDirectory { path: String, owner: Owner },
    /// Read at most `limit` bytes of a file; an absent file is empty. Answer: `Result<FileContent, String>`.
    ReadFile { path: String, limit: u32 },
    /// Listen on a loopback port of the guest and open a stream of [`AgentRequest::Connected`] on the bulk port for every
    /// connection. Answer: `Result<(), String>`.
    Listen { port: u16, service: Service },
    /// End every program and make the fresh volume that is mounted at `target` whole: written out and read-only. For a
    /// volume that others will mount. Answer: `Result<(), String>`.
    SealVolume { target: String },
    /// Write everything to the disks. With `unmount`, also make the root read-only: for a disk that becomes a layer.
    /// Answer: `Result<(), String>`.
    Sync { unmount: bool },
}

/// Opens a stream from agent to host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentRequest {
    /// Somebody in the guest connected to a port of [`Request::Listen`]; the stream is the connection.
    Connected { service: Service },
}

/// What a guest may reach on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Service {
    /// The git proxy.
    Git,
    /// The proxy to other hosts: HTTP, CONNECT and SOCKS5 on one port.
    Egress,
    /// Package registries, whose credentials the host adds.
    Registry,
    /// Caches and artifacts of actions.
    Results,
}

/// Everything that must differ between two clones of one snapshot, and what is mounted for this job only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub hostname: String,
    /// 32 hexadecimal digits.
    pub machine_id: String,
    /// Mixed into the kernel's random pool, which is then reseeded.
    pub entropy: [u8; 32],
    /// Nanoseconds since the epoch.
    pub clock_ns: i64,
    /// The cache of this job, if it has one.
    pub cache: Option<CacheMount>,
}

/// A cache's place in the guest and what is seen there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheMount {
    /// An absolute path.
    pub target: String,
    pub content: CacheContent,
}

/// What a job sees at its cache's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheContent {
    /// The cache volume, and nobody can write there.
    ReadOnly(VolumeFormat),
    /// The cache volume, below an overlay whose writes go to the scratch disk and end with the VM.
    Overlay(VolumeFormat),
    /// The fresh volume, which this VM fills.
    Fresh,
    /// An empty directory: there is no volume yet.
    Empty(Owner),
}

/// The file system on a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeFormat {
    /// Packed by the host from the operator's files.
    Erofs,
    /// Written by a guest.
    Ext4,
}

/// Who owns a file or process in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    /// The guest's superuser.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments; the program is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    pub directory: String,
    pub owner: Owner,
    /// Whether the host's bytes are its input; else the input is empty.
    pub stdin: bool,
}

/// A record of an [`Request::Exec`] stream, agent to host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// The last one.
    Exited(Exit),
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub status: ExitStatus,
    /// Processes that the guest's kernel killed for lack of memory while the program ran.
    pub oom_kills: u64,
    /// When the program ended, a user who is not root could write nothing more to the scratch disk.
    pub is_disk_full: bool,
}

/// The status of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    Code(i32),
    Signal(i32),
    /// It could not be started; the text says why.
    NotStarted(String),
}

/// The answer to [`Request::ReadFile`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileContent {
    pub bytes: Vec<u8>,
    /// The file was longer than the limit.
    pub truncated: bool,
}

/// The largest record. An agent splits output at [`super::frame::MAX_PAYLOAD`]; only file contents come near this.
pub const MAX_RECORD: usize = 4 * 1024 * 1024;

/// Bytes in front of a record's content.
pub const RECORD_HEADER_LEN: usize = 5;

const TAG_STDOUT: u8 = 1;
const TAG_STDERR: u8 = 2;
const TAG_EXITED: u8 = 3;
const TAG_ANSWER: u8 = 4;

/// A message that does not mean anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadMessage(pub &'static str);

impl std::fmt::Display for BadMessage {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "the peer sent {}", self.0)
    }
}

impl std::error::Error for BadMessage {}

/// Encodes a request or an answer's value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("messages are plain data, which postcard always encodes")
}

/// Decodes a request or an answer's value; trailing bytes are refused.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, BadMessage> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(BadMessage("a message with something behind it")),
        Err(_) => Err(BadMessage("a message that cannot be decoded")),
    }
}

/// Length of the record's content that follows this header, after a check against [`MAX_RECORD`].
pub fn record_len(header: [u8; RECORD_HEADER_LEN]) -> Result<usize, BadMessage> {
    let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if length > MAX_RECORD { Err(BadMessage("a record above the limit")) } else { Ok(length) }
}

fn record_header(tag: u8, length: usize) -> [u8; RECORD_HEADER_LEN] {
    let [l0, l1, l2, l3] = (length as u32).to_le_bytes();
    [tag, l0, l1, l2, l3]
}

fn record(tag: u8, content: &[u8]) -> Vec<u8> {
    [&record_header(tag, content.len()), content].concat()
}

/// Which of a program's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipe {
    Stdout,
    Stderr,
}

impl Pipe {
    /// What stands in front of `length` bytes of this output, in their record.
    pub fn record_header(self, length: usize) -> [u8; RECORD_HEADER_LEN] {
        let tag = match self {
            Self::Stdout => TAG_STDOUT,
            Self::Stderr => TAG_STDERR,
        };
        record_header(tag, length)
    }
}

impl Output {
    /// The record's wire form.
    pub fn to_record(&self) -> Vec<u8> {
        match self {
            Self::Stdout(bytes) => record(TAG_STDOUT, bytes),
            Self::Stderr(bytes) => record(TAG_STDERR, bytes),
            Self::Exited(exit) => record(TAG_EXITED, &encode(exit)),
        }
    }

    /// From the tag and the content of a record.
    pub fn from_record(tag: u8, content: Vec<u8>) -> Result<Self, BadMessage> {
        match tag {
            TAG_STDOUT => Ok(Self::Stdout(content)),
            TAG_STDERR => Ok(Self::Stderr(content)),
            TAG_EXITED => Ok(Self::Exited(decode(&content)?)),
            _ => Err(BadMessage("a record of an unknown kind")),
        }
    }
}

/// The one record that answers a request.
pub fn answer_record<T: Serialize>(answer: &Result<T, String>) -> Vec<u8> {
    record(TAG_ANSWER, &encode(answer))
}

/// The answer in a record.
pub fn answer_from_record<'a, T: Deserialize<'a>>(tag: u8, content: &'a [u8]) -> Result<Result<T, String>, BadMessage> {
    if tag == TAG_ANSWER { decode(content) } else { Err(BadMessage("something else than an answer")) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_survive_the_wire() {
        for output in [
            Output::Stdout(b"text".to_vec()),
            Output::Stderr(Vec::new()),
            Output::Exited(Exit { status: ExitStatus::Signal(9), oom_kills: 2, is_disk_full: true }),
        ] {
            let bytes = output.to_record();
            let header = *bytes.first_chunk::<RECORD_HEADER_LEN>().unwrap();
            assert_eq!(record_len(header), Ok(bytes.len() - RECORD_HEADER_LEN));
            match output {
                Output::Stdout(_) => assert_eq!(header, Pipe::Stdout.record_header(bytes.len() - RECORD_HEADER_LEN)),
                Output::Stderr(_) => assert_eq!(header, Pipe::Stderr.record_header(bytes.len() - RECORD_HEADER_LEN)),
                Output::Exited(_) => {}
            }
            assert_eq!(Output::from_record(header[0], bytes[RECORD_HEADER_LEN..].to_vec()), Ok(output));
        }
    }

    #[test]
    fn a_record_that_claims_four_gigabytes_is_refused() {
        assert!(record_len([1, 0xFF, 0xFF, 0xFF, 0xFF]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(tag in any::<u8>(), bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _request = decode::<Request>(&bytes);
            let _output = Output::from_record(tag, bytes.clone());
            let _answer = answer_from_record::<FileContent>(tag, &bytes);
        }
    }
}
