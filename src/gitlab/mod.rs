//! GitLab's runner protocol: GitLab reads `.gitlab-ci.yml`, plans, and gives single jobs away; this service runs each in a VM of
//! its own and tells how it goes.

pub mod wire;

/// Why a job ends of which GitLab says that it is being cancelled: its `after_script` still runs.
pub const CANCELING: &str = "Cancelled at GitLab";

/// Why a job ends that GitLab has given up: nothing of it runs any more.
pub const ABORTED: &str = "GitLab has ended the job";
