//! Two pull requests from webhook to status, with everything real but the forge, which is a small one on loopback.
//!
//! ```text
//! make demo
//! ```
//!
//! `make demo-gitlab` plays two jobs that a GitLab gives away in their place.
//!
//! It shows what happens as it happens, then compares what it saw with what should have been: the demo is also a test, and
//! ends with an error if a single thing differs. Everything that it makes is under `.demo` in the current directory.

mod control;
mod pipeline;
mod play;
mod scene;
mod screen;
mod service;
mod verdict;
mod watch;

#[path = "../local-forge/forge/mod.rs"]
mod forge;
#[path = "../local-gitlab/gitlab/mod.rs"]
mod local_gitlab;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use local_gitlab::GitLab;
use scene::Scene;
use screen::Screen;
use service::Service;
use verdict::Verdict;

#[derive(Debug, Parser)]
#[command(name = "demo", about = "Two pull requests on a forge of this machine, each in a fresh microVM")]
struct Arguments {
    /// The program to show; `make demo` builds it
    #[arg(long, default_value = "target/release/dayfly")]
    dayfly: PathBuf,
    /// Play jobs of a GitLab in place of the pull requests
    #[arg(long)]
    gitlab: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().expect("nothing else has chosen a provider yet");
    let screen = Screen::new();
    match demo(&Arguments::parse(), &screen).await {
        Ok(verdict) if verdict.is_clean() => {
            let compared = verdict.compared();
            screen.success(&format!("One passed and one failed, as they should: all {compared} comparisons hold."));
            ExitCode::SUCCESS
        }
        Ok(verdict) => {
            verdict.differences().iter().for_each(|difference| screen.failure(difference));
            ExitCode::FAILURE
        }
        Err(error) => {
            screen.failure(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn demo(arguments: &Arguments, screen: &Screen) -> anyhow::Result<Verdict> {
    let program = std::path::absolute(&arguments.dayfly)?;
    if !program.is_file() {
        bail!("there is no `{}`\n  hint: `make demo` builds it", program.display());
    }
    let gitlab = match arguments.gitlab {
        true => Some(GitLab::start(local_gitlab::Options::default()).await.context("starting the GitLab")?),
        false => None,
    };
    let scene = Scene::set(gitlab.as_ref()).await.context("setting the scene")?;
    until_interrupted(service::bake(&program, &scene)).await?;
    let mut service = until_interrupted(Service::start(&program, &scene)).await?;
    let mut verdict = Verdict::default();
    let played = match &gitlab {
        Some(gitlab) => until_interrupted(pipeline::all(gitlab, &scene, screen, &mut verdict)).await,
        None => until_interrupted(play::all(&scene, screen, &mut verdict)).await,
    };
    // Whatever happened, nothing stays behind.
    let stopped = service.stop().await;
    played.map_err(|error| if error.is::<Stopped>() { error } else { service.explain(error) })?;
    stopped?;
    play::no_vm_is_left(&scene, &mut verdict)?;
    Ok(verdict)
}

/// Somebody wants the demo to end.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Stopped(&'static str);

/// Lets `work` go on until somebody wants it to end.
async fn until_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => Err(Stopped("interrupted").into()),
        _ = terminate.recv() => Err(Stopped("terminated").into()),
        _ = hang_up.recv() => Err(Stopped("the terminal is gone").into()),
    }
}
