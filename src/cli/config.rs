//! `dayfly config`.

use std::path::PathBuf;

use clap::Subcommand;

use super::EXIT_USAGE;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check a configuration: every error at once, with its place and a hint
    Check {
        /// The configuration
        file: PathBuf,
    },
}

pub(super) fn run(command: &ConfigCommand) -> u8 {
    let ConfigCommand::Check { file } = command;
    let report = crate::config::check(file);
    if report.is_valid() {
        println!("{report}");
        return 0;
    }
    eprintln!("{report}");
    EXIT_USAGE
}
