//! How a job of GitLab's ended, in GitLab's words.

use serde::Serialize;
use serde_json::Value;

/// Why a job failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// What the job itself did.
    ScriptFailure,
    /// It took longer than it may.
    JobExecutionTimeout,
    /// What the runner should have done.
    RunnerSystemFailure,
    /// A registry does not give an image.
    ImagePullFailure,
    /// It asks for what this runner cannot do.
    RunnerUnsupported,
}

/// The end that GitLab is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Success,
    Failed { reason: FailureReason, exit_code: Option<i32> },
    Canceled,
}

impl Verdict {
    /// Whether nothing failed.
    pub fn is_success(self) -> bool {
        self == Self::Success
    }

    /// The variable `CI_JOB_STATUS` as `after_script` sees it.
    pub fn status(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed { reason: FailureReason::JobExecutionTimeout, .. } => "timedout",
            Self::Failed { .. } => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// As it is kept until GitLab knows it.
    pub fn to_value(self) -> Value {
        let (state, reason, exit_code) = match self {
            Self::Success => ("success", None, None),
            Self::Failed { reason, exit_code } => ("failed", Some(reason), exit_code),
            Self::Canceled => ("canceled", None, None),
        };
        serde_json::json!({ "state": state, "failure_reason": reason, "exit_code": exit_code })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_gitlabs_words() {
        let told = [
            Verdict::Success,
            Verdict::Failed { reason: FailureReason::ScriptFailure, exit_code: Some(7) },
            Verdict::Failed { reason: FailureReason::JobExecutionTimeout, exit_code: None },
            Verdict::Canceled,
        ]
        .map(|verdict| verdict.to_value().to_string());
        insta::assert_snapshot!(told.join("\n"), @r#"
        {"state":"success","failure_reason":null,"exit_code":null}
        {"state":"failed","failure_reason":"script_failure","exit_code":7}
        {"state":"failed","failure_reason":"job_execution_timeout","exit_code":null}
        {"state":"canceled","failure_reason":null,"exit_code":null}
        "#);
    }
}
