//! Progress of long work on standard error: a line that lives in a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::image::Progress;

/// How much of a detail is shown.
const DETAIL_WIDTH: usize = 60;

/// Progress for a person.
#[derive(Debug)]
pub(super) struct Terminal {
    bar: Option<ProgressBar>,
    current: Mutex<Option<(String, Instant)>>,
}

impl Terminal {
    pub(super) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {msg}").expect("the template is valid");
            ProgressBar::new_spinner().with_style(style)
        });
        Self { bar, current: Mutex::new(None) }
    }

    /// Ends the display.
    pub(super) fn done(&self) {
        self.end_step();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn end_step(&self) {
        let ended = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let (Some((text, began)), Some(bar)) = (ended, &self.bar) else { return };
        bar.println(format!("  {text} ({:.1} s)", began.elapsed().as_secs_f32()));
    }
}

impl Progress for Terminal {
    fn step(&self, text: &str) {
        self.end_step();
        *self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some((text.to_owned(), Instant::now()));
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(text.to_owned());
                bar.set_message("");
                bar.reset_elapsed();
                bar.enable_steady_tick(Duration::from_millis(120));
            }
            None => eprintln!("dayfly: {text} …"),
        }
    }

    fn detail(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.chars().filter(|c| !c.is_control()).take(DETAIL_WIDTH).collect::<String>());
        }
    }
}
