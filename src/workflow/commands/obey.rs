//! What each command does.

use super::Hearing;
use super::annotation::{Annotation, Level, Said as Place};
use super::command::Command;
use super::listener::{Asked, Listener, show};
use crate::workflow::file_commands;

/// Why commands that change the environment of later steps are refused.
const UNSECURE: &str = "it is disabled, because anything that is printed could use it; \
    write to the files that GITHUB_ENV and GITHUB_PATH name, or set ACTIONS_ALLOW_UNSECURE_COMMANDS to `true`";

impl Listener {
    /// Does what a command says; gives the file that is needed for it.
    pub(super) fn obey(
        &mut self, words: &str, command: &Command, hearing: &mut Hearing, text: &mut Vec<u8>,
    ) -> Option<Asked> {
        let is_silent = matches!(command.name.as_str(), "add-mask" | "debug" | "error" | "warning" | "notice");
        if self.echoes && !is_silent && command.name != "stop-commands" {
            show(words, hearing, text);
        }
        let data = command.data.as_str();
        match command.name.as_str() {
            "group" => show(&format!("##[group]{data}"), hearing, text),
            "endgroup" => show("##[endgroup]", hearing, text),
            "debug" if self.is_debug => show(&format!("##[debug]{data}"), hearing, text),
            "error" => self.annotate(Level::Error, command, hearing, text),
            "warning" => self.annotate(Level::Warning, command, hearing, text),
            "notice" => self.annotate(Level::Notice, command, hearing, text),
            "add-mask" => self.mask(words, data, hearing, text),
            "stop-commands" => self.stop(words, data, hearing, text),
            "echo" => match data.trim().to_ascii_lowercase().as_str() {
                "on" => self.echoes = true,
                "off" => self.echoes = false,
                _ => self.fail(words, "its value is neither `on` nor `off`", hearing, text),
            },
            "set-output" | "save-state" => self.keep(words, command, hearing, text),
            "set-env" | "add-path" => self.change_environment(words, command, hearing, text),
            "add-matcher" if data.is_empty() => self.warn("`add-matcher` names no file", hearing, text),
            "add-matcher" => return Some(self.ask(words, data, false)),
            "remove-matcher" => return self.remove_matcher(words, command, hearing, text),
            _ => {}
        }
        None
    }

    fn annotate(&mut self, level: Level, command: &Command, hearing: &mut Hearing, text: &mut Vec<u8>) {
        let place = Place {
            title: command.property("title"),
            file: command.property("file"),
            line: command.property("line"),
            end_line: command.property("endLine"),
            column: command.property("col"),
            end_column: command.property("endColumn"),
        };
        self.tell(Annotation::new(level, &command.data, place, &self.workspace), hearing, text);
    }

    fn mask(&mut self, words: &str, value: &str, hearing: &mut Hearing, text: &mut Vec<u8>) {
        if value.trim().is_empty() {
            return self.warn("`add-mask` names nothing to mask", hearing, text);
        }
        if hearing.masks.add_said(value).is_err() {
            return self.fail(words, "there are too many masks", hearing, text);
        }
        if self.echoes {
            show("::add-mask::***", hearing, text);
        }
    }

    /// `set-output` and `save-state`, which work for as long as anybody uses them.
    fn keep(&mut self, words: &str, command: &Command, hearing: &mut Hearing, text: &mut Vec<u8>) {
        let (name, file) = match command.name.as_str() {
            "set-output" => ("set-output", "GITHUB_OUTPUT"),
            _ => ("save-state", "GITHUB_STATE"),
        };
        let Some(key) = command.property("name") else {
            return self.fail(words, "the property `name` is missing", hearing, text);
        };
        if !self.said.count(key.len() + command.data.len()) {
            return self.fail(words, "the step said more than a step may", hearing, text);
        }
        let pair = (key.to_owned(), command.data.clone());
        if name == "set-output" {
            self.said.outputs.push(pair)
        } else {
            self.said.state.push(pair)
        }
        if self.said.is_first(name) {
            let message = format!("`{name}` is deprecated; write to the file that {file} names");
            self.warn(&message, hearing, text);
        }
    }

    fn change_environment(&mut self, words: &str, command: &Command, hearing: &mut Hearing, text: &mut Vec<u8>) {
        if !self.allows_unsecure {
            return self.fail(words, UNSECURE, hearing, text);
        }
        if !self.said.count(command.data.len()) {
            return self.fail(words, "the step said more than a step may", hearing, text);
        }
        if command.name == "add-path" {
            match command.data.contains('\0') {
                true => self.fail(words, "a directory cannot contain a NUL character", hearing, text),
                false => self.said.path.push(command.data.clone()),
            }
            return;
        }
        let pair = command.property("name").ok_or_else(|| "the property `name` is missing".to_owned());
        let pair = pair.and_then(|name| file_commands::check_variable(name, &command.data).map(|()| name.to_owned()));
        match pair {
            Ok(name) => self.said.env.push((name, command.data.clone())),
            Err(why) => self.fail(words, &why, hearing, text),
        }
    }

    fn remove_matcher(
        &mut self, words: &str, command: &Command, hearing: &mut Hearing, text: &mut Vec<u8>,
    ) -> Option<Asked> {
        let owner = command.property("owner");
        match (owner, command.data.as_str()) {
            (Some(owner), "") => hearing.matchers.remove(std::iter::once(owner)),
            (None, file) if !file.is_empty() => return Some(self.ask(words, file, true)),
            _ => self.warn("`remove-matcher` names either an owner or a file", hearing, text),
        }
        None
    }
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
