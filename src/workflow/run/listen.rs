//! What a step has told the steps after it: in its files, in its output, and what of it nobody may see.

use std::collections::BTreeMap;

use super::prepare::check_env;
use super::{Ended, JobRun, MAX_STEP_OUTPUT_BYTES, MAX_SUMMARY_BYTES, StepResult};
use crate::workflow::commands::{Said, SharedHearing};
use crate::workflow::expression::Object;
use crate::workflow::file_commands::{self, FileCommandError, Pairs};

/// Directories that steps may put into `PATH`.
const MAX_PATH_ENTRIES: usize = 256;

impl JobRun {
    /// How steps are heard: the masks and problem matchers of the job. Secrets of the job belong into its masks before the first
    /// step.
    pub fn hearing(&self) -> &SharedHearing {
        &self.hearing
    }

    /// Whether steps shall say what they otherwise keep for themselves: `ACTIONS_STEP_DEBUG` in `vars` or the job's environment, or
    /// `RUNNER_DEBUG` there.
    pub fn is_debug(&self) -> bool {
        let is_set = |name: &str, value: &str| self.env.get(name).is_some_and(|set| set.eq_ignore_ascii_case(value));
        let of_operator = self.vars.member("ACTIONS_STEP_DEBUG").to_text();
        of_operator.eq_ignore_ascii_case("true") || is_set("ACTIONS_STEP_DEBUG", "true") || is_set("RUNNER_DEBUG", "1")
    }

    /// The directory in the VM that the repository is in.
    pub fn workspace(&self) -> &str {
        &self.place.github.workspace
    }

    /// The text as people may see it.
    pub fn masked(&self, text: &str) -> String {
        let mut hearing = self.hearing.lock();
        if hearing.masks.is_empty() { text.to_owned() } else { hearing.masks.cover_text(text) }
    }

    /// Takes in what the step said, then its files; what is wrong with one does not keep the others from counting.
    pub(super) fn take_in(&mut self, result: StepResult, ended: &mut Ended) {
        let StepResult { env, output, path, summary, state, said, .. } = result;
        let Said { env: said_env, path: said_path, outputs, state: said_state, failures, annotations, .. } = said;
        ended.errors.extend(failures);
        ended.annotations.extend(annotations);
        let mut note = |error: Option<FileCommandError>| ended.errors.extend(error.map(|error| error.to_string()));
        note(self.extend_env(said_env).err());
        self.extend_path(&said_path);
        let env = file_commands::parse_env(&env);
        note(self.extend_env(env.pairs).err());
        note(env.mistake);
        note(file_commands::parse_path(&path).map(|directories| self.extend_path(&directories)).err());
        let state = file_commands::parse_state(&state);
        note(self.keep_state([said_state, state.pairs].concat()).err());
        note(state.mistake);
        let output = file_commands::parse_output(&output);
        match self.outputs([outputs, output.pairs].concat()) {
            Ok(outputs) => ended.outputs = outputs,
            Err(error) => note(Some(error)),
        }
        note(output.mistake);
        ended.left_out.extend(env.left_out.iter().map(ToString::to_string));
        ended.left_out.extend(match file_commands::parse_summary(&summary) {
            Ok(text) => self.add_summary(&text),
            Err(error) => Some(error.to_string()),
        });
    }

    pub(super) fn extend_env(&mut self, pairs: Pairs) -> Result<(), FileCommandError> {
        let mut env = self.env.clone();
        env.extend(pairs.iter().cloned());
        check_env(&env).map_err(|error| limit("GITHUB_ENV", error.message))?;
        self.env = env;
        self.exported.extend(pairs);
        Ok(())
    }

    /// Of all directories the last one written comes first.
    pub(super) fn extend_path(&mut self, directories: &[String]) {
        let directories = &directories[directories.len().saturating_sub(MAX_PATH_ENTRIES)..];
        self.path_added.extend_from_slice(directories);
        self.path_added.drain(..self.path_added.len().saturating_sub(MAX_PATH_ENTRIES));
        self.path.retain(|known| !directories.contains(known));
        self.path.splice(0..0, directories.iter().rev().cloned());
        self.path.truncate(MAX_PATH_ENTRIES);
    }

    /// A summary is for people, and the step has done its work without it: what is too much is left out. Gives what to say of that.
    pub(super) fn add_summary(&mut self, text: &str) -> Option<String> {
        if self.summary.len() + text.len() > MAX_SUMMARY_BYTES {
            let message = format!("the job's summary has more than {MAX_SUMMARY_BYTES} bytes");
            return Some(limit("GITHUB_STEP_SUMMARY", message).to_string());
        }
        if !self.summary.is_empty() && !self.summary.ends_with('\n') && !text.is_empty() {
            self.summary.push('\n');
        }
        self.summary.push_str(text);
        None
    }

    fn keep_state(&mut self, pairs: Pairs) -> Result<(), FileCommandError> {
        self.count_output(&pairs, "GITHUB_STATE")?;
        if !pairs.is_empty() {
            self.states.entry(self.at).or_default().extend(pairs);
        }
        Ok(())
    }

    fn outputs(&mut self, pairs: Pairs) -> Result<Object, FileCommandError> {
        self.count_output(&pairs, "GITHUB_OUTPUT")?;
        let mut outputs = Object::default();
        for (name, value) in pairs {
            outputs.replace(name, value);
        }
        Ok(outputs)
    }

    fn count_output(&mut self, pairs: &Pairs, file: &'static str) -> Result<(), FileCommandError> {
        self.count_bytes(pairs.iter().map(|(name, value)| name.len() + value.len()).sum(), file)
    }

    pub(super) fn count_bytes(&mut self, bytes: usize, file: &'static str) -> Result<(), FileCommandError> {
        if self.output_bytes + bytes > MAX_STEP_OUTPUT_BYTES {
            return Err(limit(file, too_many_outputs()));
        }
        self.output_bytes += bytes;
        Ok(())
    }

    /// Outputs go to other jobs, which do not know what to mask in them.
    pub(super) fn leave_out_secrets(&mut self, outputs: &mut BTreeMap<String, String>) {
        let is_secret = |value: &str| self.hearing.lock().masks.has_some_in(value);
        let secret: Vec<String> =
            outputs.iter().filter(|(_, value)| is_secret(value)).map(|(name, _)| name.clone()).collect();
        for name in secret {
            outputs.remove(&name);
            let note = format!("\nThe output `{name}` of the job is left out, because a secret may be in it.\n");
            self.summary.push_str(&note);
        }
    }
}

pub(super) fn too_many_outputs() -> String {
    format!("the outputs of the job's steps have more than {MAX_STEP_OUTPUT_BYTES} bytes")
}

fn limit(file: &'static str, message: String) -> FileCommandError {
    FileCommandError { file, line: None, message }
}
