//! The command line's own description: `--help` with its commands in groups, shell completions, and man pages. All of them are
//! made from the one definition of the command line.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Command, CommandFactory, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, EXIT_USAGE, say_bytes};

/// The commands as `dayfly --help` shows them. What is in no group is shown after them.
const GROUPS: [(&str, &[&str]); 4] = [
    ("The service", &["serve", "config", "doctor"]),
    (
        "A running service",
        &[
            "jobs",
            "job",
            "logs",
            "why",
            "egress",
            "artifact",
            "cancel",
            "rerun",
            "approve",
            "dispatch",
            "vms",
            "runners",
            "deliveries",
            "prepared",
        ],
    ),
    ("Without a service", &["run", "exec", "workflow", "eval", "image", "cache", "bench"]),
    ("This program", &["completions", "man"]),
];

const OTHERS: &str = "Other commands";

const AFTER: &str = "`dayfly COMMAND --help` tells what a command does, with examples; `dayfly man` is all of it.";

const COMPLETIONS_HELP: &str = "\
bash        dayfly completions bash > /usr/share/bash-completion/completions/dayfly
zsh         dayfly completions zsh > /usr/local/share/zsh/site-functions/_dayfly
fish        dayfly completions fish > ~/.config/fish/completions/dayfly.fish
elvish      dayfly completions elvish >> ~/.config/elvish/rc.elv
PowerShell  dayfly completions powershell >> $PROFILE";

const MAN_HELP: &str = "\
Examples:
  dayfly man | man -l -
  dayfly man job show | man -l -
  dayfly man --directory /usr/local/share/man/man1";

#[derive(Debug, Subcommand)]
pub(super) enum ManualCommand {
    /// Print a shell's completions
    #[command(after_long_help = COMPLETIONS_HELP)]
    Completions { shell: Shell },
    /// Print a man page, or write all of them
    #[command(after_long_help = MAN_HELP)]
    Man {
        /// Write a page for every command into this directory, which is made if it is absent
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
        /// The command whose page is printed; without it the page of the whole program
        #[arg(conflicts_with = "directory")]
        command: Vec<String>,
    },
}

pub(super) fn run(command: ManualCommand) -> anyhow::Result<u8> {
    match command {
        ManualCommand::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut definition(), env!("CARGO_PKG_NAME"), &mut script);
            say_bytes(&script)?;
        }
        ManualCommand::Man { directory: Some(directory), .. } => {
            let what = || format!("writing man pages to `{}`", directory.display());
            std::fs::create_dir_all(&directory).with_context(what)?;
            for command in tree(&built()) {
                page(command).generate_to(&directory).with_context(what)?;
            }
        }
        ManualCommand::Man { directory: None, command: path } => {
            let Some(command) = below(built(), &path) else {
                eprintln!(
                    "error: there is no command `{}`\n  hint: `dayfly --help` lists the commands",
                    path.join(" ")
                );
                return Ok(EXIT_USAGE);
            };
            let mut text = Vec::new();
            page(command).render(&mut text)?;
            say_bytes(&text)?;
        }
    }
    Ok(0)
}

/// The command line with every command knowing its full name.
fn built() -> Command {
    let mut definition = definition();
    definition.build();
    definition
}

/// The command that the words of `path` lead to.
fn below(command: Command, path: &[String]) -> Option<Command> {
    path.iter().try_fold(command, |command, name| command.find_subcommand(name).cloned())
}

/// Every command below `command`, with itself.
fn tree(command: &Command) -> Vec<Command> {
    let is_told = |known: &&Command| known.get_name() != "help" && !known.is_hide_set();
    let below = command.get_subcommands().filter(is_told).flat_map(tree);
    std::iter::once(command.clone()).chain(below).collect()
}

fn page(command: Command) -> Man {
    Man::new(command).source(concat!("dayfly ", env!("CARGO_PKG_VERSION"))).manual("Dayfly")
}

/// The command line, with its commands in groups.
pub(super) fn definition() -> Command {
    let command = Cli::command().after_help(AFTER);
    let listing = listing(&command);
    let heading = command.get_styles().get_header();
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{listing}{heading}Options:{heading:#}\n{{options}}{{after-help}}"
    );
    with_flowing_help(command.help_template(template))
}

/// The same commands, with the paragraphs of their longer help as one line each: clap breaks lines itself, where the terminal ends.
fn with_flowing_help(command: Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|known| known.get_name().to_owned()).collect();
    let command = names.into_iter().fold(command, |command, name| command.mut_subcommand(name, with_flowing_help));
    match command.get_after_long_help().map(|help| flowing(&help.to_string())) {
        Some(help) => command.after_long_help(help),
        None => command,
    }
}

/// Joins a line to the one before it, unless one of the two is indented, empty or a heading.
fn flowing(text: &str) -> String {
    let mut out = String::new();
    let mut is_open = false;
    for line in text.lines() {
        let is_text = !line.is_empty() && !line.starts_with(' ');
        if !out.is_empty() {
            out.push(if is_open && is_text { ' ' } else { '\n' });
        }
        out.push_str(line);
        is_open = is_text && !line.ends_with(':');
    }
    out
}

fn listing(command: &Command) -> String {
    let all: Vec<(&str, String)> = command
        .get_subcommands()
        .filter(|known| !known.is_hide_set())
        .map(|known| (known.get_name(), known.get_about().map(ToString::to_string).unwrap_or_default()))
        .collect();
    let width = all.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let (heading, literal) = (command.get_styles().get_header(), command.get_styles().get_literal());
    let is_grouped = |name: &str| GROUPS.iter().any(|(_, members)| members.contains(&name));
    let others: Vec<&str> = all.iter().map(|(name, _)| *name).filter(|name| !is_grouped(name)).collect();
    let mut text = String::new();
    for (title, members) in GROUPS.into_iter().chain([(OTHERS, others.as_slice())]) {
        let known = members.iter().filter_map(|member| all.iter().find(|(name, _)| name == member));
        let lines: String =
            known.map(|(name, about)| format!("  {literal}{name:<width$}{literal:#}  {about}\n")).collect();
        if !lines.is_empty() {
            text.push_str(&format!("{heading}{title}:{heading:#}\n{lines}\n"));
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound_and_every_command_has_its_group() {
        definition().debug_assert();
        let help = definition().render_long_help().to_string();
        assert!(!help.contains(OTHERS), "a command is in no group:\n{help}");
        for group in
            ["The service:", "A running service:", "Without a service:", "Usage: dayfly <COMMAND>", "--version"]
        {
            assert!(help.contains(group), "no `{group}` in:\n{help}");
        }
    }

    #[test]
    fn paragraphs_flow_and_examples_stay() {
        let text = "One sentence that\ngoes on.\n\nExamples:\n  dayfly a\n  dayfly b\n\nExit codes: 0 good;\n1 bad.";
        insta::assert_snapshot!(flowing(text), @"
        One sentence that goes on.

        Examples:
          dayfly a
          dayfly b

        Exit codes: 0 good; 1 bad.
        ");
    }

    #[test]
    fn every_command_has_one_line_about_it_and_a_page() {
        let all = tree(&built());
        assert!(all.len() > 20, "{}", all.len());
        for command in all {
            let name = command.get_display_name().unwrap_or("dayfly").to_owned();
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && about.len() < 80 && !about.contains('\n'), "{name}: `{about}`");
            let mut text = Vec::new();
            page(command).render(&mut text).unwrap();
            assert!(String::from_utf8(text).unwrap().contains(".SH NAME"), "{name}");
        }
    }
}
