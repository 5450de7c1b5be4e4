//! Hears one step: see [`Listener`].

use super::Hearing;
use super::annotation::{Annotation, Level};
use super::command::{Command, may_become_command};
use super::lines::{Lines, MAX_LINE};
use super::matcher_file::{self, Matching};
use super::said::Said;

/// Characters that a word which ends a stop of commands needs to be masked.
const MIN_MASKED_TOKEN: usize = 7;

/// Where bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Stdout,
    Stderr,
}

/// What bytes of a step have come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// For the log.
    pub text: Vec<u8>,
    /// A file that is needed before anything else can be heard: see [`Listener::answer`].
    pub asked: Option<Asked>,
}

/// A file of problem matchers that a step named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// In the guest; absolute.
    pub path: String,
    /// Whether its matchers shall go, rather than come.
    removes: bool,
    said: String,
}

/// Hears one step. After every [`Listener::push`], [`Listener::next`] is asked until it has nothing more.
#[derive(Debug)]
pub struct Listener {
    pub(super) workspace: String,
    /// Whether `debug` is shown.
    pub(super) is_debug: bool,
    /// Whether commands are shown in the log as they were said.
    pub(super) echoes: bool,
    /// Whether `set-env` and `add-path` are obeyed.
    pub(super) allows_unsecure: bool,
    streams: [Lines; 2],
    /// The word that ends a stop of commands.
    token: Option<String>,
    pub(super) said: Said,
}

impl Listener {
    /// A step before its first word. `workspace` is where relative paths begin; `is_debug` shows what steps say for those who
    /// look for a fault; `allows_unsecure` is `ACTIONS_ALLOW_UNSECURE_COMMANDS`.
    pub fn new(workspace: &str, is_debug: bool, allows_unsecure: bool) -> Self {
        Self {
            workspace: workspace.trim_end_matches('/').to_owned(),
            is_debug,
            echoes: is_debug,
            allows_unsecure,
            streams: Default::default(),
            token: None,
            said: Said::default(),
        }
    }

    /// Bytes have arrived.
    pub fn push(&mut self, source: Source, bytes: &[u8]) {
        self.streams[source as usize].push(bytes);
    }

    /// What they come to, if to anything yet; `is_over` if nothing follows in this stream.
    pub fn next(&mut self, source: Source, is_over: bool, hearing: &mut Hearing) -> Option<Heard> {
        // Taken out while its lines are looked at, because commands may change everything else.
        let mut lines = std::mem::take(&mut self.streams[source as usize]);
        let mut heard = Heard::default();
        while heard.asked.is_none() {
            let Some(line) = lines.next(is_over) else { break };
            if line.is_whole && line.bytes.len() <= MAX_LINE {
                heard.asked = self.hear(line.bytes, hearing, &mut heard.text);
            } else {
                heard.text.extend_from_slice(&hearing.masks.cover(line.bytes));
            }
        }
        if heard.asked.is_none() {
            show_open(&mut lines, hearing, &mut heard.text);
        }
        self.streams[source as usize] = lines;
        (heard != Heard::default()).then_some(heard)
    }

    /// Gives the content of a file that was asked for, or says why there is none; gives text for the log.
    pub fn answer(&mut self, asked: Asked, content: Result<Vec<u8>, String>, hearing: &mut Hearing) -> Vec<u8> {
        let mut text = Vec::new();
        let read = content.and_then(|content| matcher_file::read(&content));
        let done = read.and_then(|Matching { matchers, left_out }| {
            if !asked.removes {
                return hearing.matchers.add(matchers).map(|()| left_out);
            }
            hearing.matchers.remove(matchers.iter().map(|matcher| matcher.owner.as_str()));
            Ok(Vec::new())
        });
        let of_file = |why: &str| format!("the problem matchers of `{}`: {why}", asked.path);
        match done {
            Ok(left_out) => left_out.iter().for_each(|why| self.warn(&of_file(why), hearing, &mut text)),
            Err(why) => self.fail(&asked.said, &of_file(&why), hearing, &mut text),
        }
        text
    }

    /// What the step said, when it has ended.
    pub fn finish(self) -> Said {
        self.said
    }

    /// Takes a whole line.
    fn hear(&mut self, line: &[u8], hearing: &mut Hearing, text: &mut Vec<u8>) -> Option<Asked> {
        let is_plain = hearing.matchers.is_empty() && !may_become_command(line);
        if is_plain {
            text.extend_from_slice(&hearing.masks.cover(line));
            return None;
        }
        let words = String::from_utf8_lossy(line);
        let words = words.trim_end_matches(['\r', '\n']);
        match Command::read(words, self.token.as_deref()) {
            Some(command) if self.token.is_none() => return self.obey(words, &command, hearing, text),
            Some(command) if self.token.as_deref().is_some_and(|token| token.eq_ignore_ascii_case(&command.name)) => {
                self.token = None;
            }
            // No command, or one while commands are stopped.
            _ => {
                if let Some(annotation) = hearing.matchers.take(words, &self.workspace) {
                    show(&format!("##[{}]{words}", annotation.level.as_str()), hearing, text);
                    self.note(annotation, hearing);
                    return None;
                }
            }
        }
        text.extend_from_slice(&hearing.masks.cover(line));
        None
    }

    /// `stop-commands`: what follows is text, up to the word.
    pub(super) fn stop(&mut self, words: &str, token: &str, hearing: &mut Hearing, text: &mut Vec<u8>) {
        if token.trim().is_empty() || token.eq_ignore_ascii_case("pause-logging") || Command::is_name(token) {
            return self.fail(words, "it needs a word of its own that nobody guesses", hearing, text);
        }
        show(words, hearing, text);
        if token.chars().count() >= MIN_MASKED_TOKEN && hearing.masks.add(token).is_err() {
            return self.fail(words, "there are too many masks", hearing, text);
        }
        self.token = Some(token.to_owned());
    }

    /// `add-matcher` or `remove-matcher` with a file.
    pub(super) fn ask(&self, words: &str, path: &str, removes: bool) -> Asked {
        let path = match path.strip_prefix('/') {
            Some(_) => path.to_owned(),
            None => format!("{}/{}", self.workspace, path.strip_prefix("./").unwrap_or(path)),
        };
        Asked { path, removes, said: words.to_owned() }
    }

    /// A command that cannot be obeyed makes the step fail.
    pub(super) fn fail(&mut self, words: &str, why: &str, hearing: &mut Hearing, text: &mut Vec<u8>) {
        let said = Command::read(words, None).map_or_else(String::new, |command| command.name);
        let message = format!("the command `{said}` could not be processed: {why}");
        show(&format!("##[error]{message}"), hearing, text);
        self.said.fail(hearing.cover(&message));
    }

    /// Says something in the log, and beside the code.
    pub(super) fn tell(&mut self, annotation: Annotation, hearing: &mut Hearing, text: &mut Vec<u8>) {
        show(&format!("##[{}]{}", annotation.level.as_str(), annotation.message), hearing, text);
        self.note(annotation, hearing);
    }

    /// Warns, in general.
    pub(super) fn warn(&mut self, message: &str, hearing: &mut Hearing, text: &mut Vec<u8>) {
        self.tell(Annotation::general(Level::Warning, message), hearing, text);
    }

    fn note(&mut self, mut annotation: Annotation, hearing: &mut Hearing) {
        annotation.message = hearing.cover(&annotation.message);
        annotation.title = annotation.title.map(|title| hearing.cover(&title));
        annotation.file = annotation.file.map(|file| hearing.cover(&file));
        self.said.note(annotation);
    }
}

/// A line of the runner's own.
pub(super) fn show(line: &str, hearing: &mut Hearing, text: &mut Vec<u8>) {
    text.extend_from_slice(&hearing.masks.cover(line.as_bytes()));
    text.push(b'\n');
}

/// Shows what can be shown of a line that is not over: people wait for it, and it may never end.
fn show_open(lines: &mut Lines, hearing: &mut Hearing, text: &mut Vec<u8>) {
    let open = lines.open();
    let is_too_long = open.len() > MAX_LINE;
    let may_be_shown =
        !hearing.needs_whole_lines() && (lines.is_within_line() || !may_become_command(open)) || is_too_long;
    if may_be_shown && !open.is_empty() {
        let length = hearing.showable(open);
        text.extend_from_slice(&hearing.masks.cover(&open[..length]));
        lines.take_open(length);
    }
}
