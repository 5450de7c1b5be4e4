//! `dayfly bench`.
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {}

pub(super) async fn run(command: BenchCommand) -> anyhow::Result<u8> {
    match command {}
}
