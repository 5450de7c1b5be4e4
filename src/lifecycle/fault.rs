//! Which step is disturbed and how, as an operator of tests writes it: `kill@outcome-stored`, `hold@20`. Pure.

use std::fmt;
use std::str::FromStr;

use super::image_steps::{IMAGE_STEPS, ImageStep};
use super::steps::{STEPS, Step};
use crate::document::reader::quoted;

/// The environment variable that `dayfly serve` takes a fault from.
pub const VARIABLE: &str = "DAYFLY_FAULT";

/// What happens when a step is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// The service kills itself.
    Kill,
    /// The step fails.
    Fail,
    /// The step waits until its file is removed.
    Hold,
}

/// A step of any table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Job(Step),
    Image(ImageStep),
}

impl From<Step> for Place {
    fn from(step: Step) -> Self {
        Self::Job(step)
    }
}

impl From<ImageStep> for Place {
    fn from(step: ImageStep) -> Self {
        Self::Image(step)
    }
}

impl Place {
    /// By which operators and tests call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Job(step) => step.info().name,
            Self::Image(step) => step.info().name,
        }
    }

    fn may_fail(self) -> bool {
        match self {
            Self::Job(step) => step.info().may_fail,
            Self::Image(step) => step.info().may_fail,
        }
    }

    fn find(word: &str) -> Option<Self> {
        Step::find(word).map(Self::Job).or_else(|| ImageStep::find(word).map(Self::Image))
    }
}

/// A disturbance of one step, the first time that it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub disturbance: Disturbance,
    pub step: Place,
}

/// A text that is no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFault {
    #[error("{} is not a fault\n  hint: `kill@STEP`, `fail@STEP` or `hold@STEP`, with a step's name or number", quoted(.0))]
    Form(String),
    #[error("there is no step {}\n  hint: the steps are {}", quoted(.0), all_names())]
    Step(String),
    #[error("the step `{}` cannot fail\n  hint: those that can are {}", .0.name(), names(|may_fail| may_fail))]
    CannotFail(Place),
}

fn all_names() -> String {
    let images = IMAGE_STEPS.iter().map(|info| format!(", `{}`", info.name));
    names(|_| true) + &images.collect::<String>()
}

fn names(wanted: impl Fn(bool) -> bool) -> String {
    let wanted = STEPS.iter().filter(|info| wanted(info.may_fail));
    wanted.map(|info| format!("{} `{}`", info.step.number(), info.name)).collect::<Vec<_>>().join(", ")
}

impl FromStr for Fault {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        let form = || BadFault::Form(text.to_owned());
        let (word, step) = text.split_once('@').ok_or_else(form)?;
        let disturbance = match word {
            "kill" => Disturbance::Kill,
            "fail" => Disturbance::Fail,
            "hold" => Disturbance::Hold,
            _ => return Err(form()),
        };
        let step = Place::find(step).ok_or_else(|| BadFault::Step(step.to_owned()))?;
        if disturbance == Disturbance::Fail && !step.may_fail() {
            return Err(BadFault::CannotFail(step));
        }
        Ok(Self { disturbance, step })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.disturbance {
            Disturbance::Kill => "kill",
            Disturbance::Fail => "fail",
            Disturbance::Hold => "hold",
        };
        write!(out, "{word}@{}", self.step.name())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_by_name_and_number() {
        let fault = Fault { disturbance: Disturbance::Kill, step: Step::DeliveryStored.into() };
        assert_eq!("kill@delivery-stored".parse(), Ok(fault));
        assert_eq!("kill@2".parse(), Ok(fault));
        assert_eq!(fault.to_string(), "kill@delivery-stored");
        assert!("fail@home-made".parse::<Fault>().is_ok());
        let of_images = Fault { disturbance: Disturbance::Hold, step: ImageStep::StateSaved.into() };
        assert_eq!("hold@state-saved".parse(), Ok(of_images));
    }

    #[test]
    fn a_mistake_is_told_with_what_there_is() {
        let told = |text: &str| text.parse::<Fault>().unwrap_err().to_string();
        insta::assert_snapshot!(told("crash@2"), @r"
        `crash@2` is not a fault
          hint: `kill@STEP`, `fail@STEP` or `hold@STEP`, with a step's name or number
        ");
        insta::assert_snapshot!(told("fail@outcome-stored"), @r"
        the step `outcome-stored` cannot fail
          hint: those that can are 9 `home-made`, 10 `disk-copied`, 11 `confinement-made`, 12 `monitor-started`, 13 `monitor-answered`, 14 `state-loaded`, 15 `agent-answered`, 16 `guest-identified`, 40 `freeze-held`, 41 `freeze-saved`, 42 `freeze-kept`
        ");
        let unknown = told("kill@outcome-store");
        assert!(
            unknown.starts_with("there is no step `outcome-store`\n  hint: the steps are 1 `delivery-verified`, 2 ")
        );
    }
}
