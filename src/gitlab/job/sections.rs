//! How a job's log is folded and coloured, as GitLab's pages read it.

/// Colours that GitLab's own runner uses.
const GREEN: &str = "\x1b[32;1m";
const CYAN: &str = "\x1b[36;1m";
const YELLOW: &str = "\x1b[0;33m";
const RED: &str = "\x1b[31;1m";
const PLAIN: &str = "\x1b[0;m";

/// Clears what stood in a terminal's line, so that marks of sections are not seen.
const CLEAR: &str = "\r\x1b[0K";

/// A part of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The machine is there.
    PrepareExecutor,
    PrepareScript,
    GetSources,
    RestoreCache,
    DownloadArtifacts,
    /// One of the job's own steps, by its name; `script` is the usual one.
    Step(String),
    AfterScript,
    ArchiveCache {
        succeeded: bool,
    },
    UploadArtifacts {
        succeeded: bool,
    },
}

impl Stage {
    /// The section's name, which pages fold by.
    pub fn name(&self) -> String {
        match self {
            Self::PrepareExecutor => "prepare_executor".to_owned(),
            Self::PrepareScript => "prepare_script".to_owned(),
            Self::GetSources => "get_sources".to_owned(),
            Self::RestoreCache => "restore_cache".to_owned(),
            Self::DownloadArtifacts => "download_artifacts".to_owned(),
            Self::Step(name) => format!("step_{}", plain(name)),
            Self::AfterScript => "after_script".to_owned(),
            Self::ArchiveCache { succeeded: true } => "archive_cache".to_owned(),
            Self::ArchiveCache { succeeded: false } => "archive_cache_on_failure".to_owned(),
            Self::UploadArtifacts { succeeded: true } => "upload_artifacts_on_success".to_owned(),
            Self::UploadArtifacts { succeeded: false } => "upload_artifacts_on_failure".to_owned(),
        }
    }

    /// The section's title.
    pub fn title(&self) -> String {
        match self {
            Self::PrepareExecutor => "Preparing the machine".to_owned(),
            Self::PrepareScript => "Preparing environment".to_owned(),
            Self::GetSources => "Getting source from Git repository".to_owned(),
            Self::RestoreCache => "Restoring cache".to_owned(),
            Self::DownloadArtifacts => "Downloading artifacts".to_owned(),
            Self::Step(_) => format!("Executing \"{}\" stage of the job script", self.name()),
            Self::AfterScript => "Running after_script".to_owned(),
            Self::ArchiveCache { succeeded: true } => "Saving cache for successful job".to_owned(),
            Self::ArchiveCache { succeeded: false } => "Saving cache for failed job".to_owned(),
            Self::UploadArtifacts { succeeded: true } => "Uploading artifacts for successful job".to_owned(),
            Self::UploadArtifacts { succeeded: false } => "Uploading artifacts for failed job".to_owned(),
        }
    }

    /// What begins the section; with marks only where GitLab knows them. `now` is in seconds since the epoch.
    pub fn begin(&self, now: i64, has_marks: bool) -> String {
        let mark = if has_marks { format!("section_start:{now}:{}{CLEAR}", self.name()) } else { String::new() };
        format!("{mark}{CYAN}{}{PLAIN}\n", self.title())
    }

    /// What ends it; nothing where GitLab knows no marks.
    pub fn end(&self, now: i64, has_marks: bool) -> String {
        if has_marks { format!("section_end:{now}:{}{CLEAR}", self.name()) } else { String::new() }
    }
}

/// A word for the name of a section.
fn plain(name: &str) -> String {
    let word = |letter: char| if letter.is_ascii_alphanumeric() || "_-.".contains(letter) { letter } else { '_' };
    name.chars().map(word).collect::<String>().to_lowercase()
}

/// A command before it runs, or good news.
pub fn notice(text: &str) -> String {
    format!("{GREEN}{text}{PLAIN}")
}

/// A line of a warning.
pub fn warning(text: &str) -> String {
    format!("{YELLOW}WARNING: {text}{PLAIN}\n")
}

/// A line of an error.
pub fn error(text: &str) -> String {
    format!("{RED}ERROR: {text}{PLAIN}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_marked_where_gitlab_knows_marks() {
        let stage = Stage::Step("Release 1:é".to_owned());
        assert_eq!(stage.name(), "step_release_1__");
        assert_eq!(
            Stage::GetSources.begin(7, true),
            "section_start:7:get_sources\r\x1b[0K\x1b[36;1mGetting source from Git repository\x1b[0;m\n"
        );
        assert_eq!(Stage::GetSources.end(8, true), "section_end:8:get_sources\r\x1b[0K");
        assert_eq!(Stage::AfterScript.begin(7, false), "\x1b[36;1mRunning after_script\x1b[0;m\n");
        assert_eq!(Stage::AfterScript.end(7, false), "");
        assert_eq!(Stage::Step("script".to_owned()).title(), "Executing \"step_script\" stage of the job script");
    }
}
