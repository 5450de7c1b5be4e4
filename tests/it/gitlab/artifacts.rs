//! Artifacts between this host and GitLab.

use std::path::PathBuf;

use dayfly::gitlab::client::{ArtifactParams, Client, ClientError, Fetched};
use secrecy::SecretString;

use crate::local_gitlab::{Fault, FaultKind, GitLab, JobState, Options};

/// A GitLab with a job that runs.
struct Desk {
    gitlab: GitLab,
    client: Client,
    job: u64,
    token: SecretString,
    directory: tempfile::TempDir,
}

impl Desk {
    async fn with(options: Options) -> Self {
        let gitlab = GitLab::start(options).await.unwrap();
        let client = Client::new(&gitlab.url().parse().unwrap(), None).unwrap();
        let runner: SecretString = gitlab.add_runner().into();
        let job = gitlab.add_job(serde_json::json!({}));
        let info = dayfly::gitlab::client::RunnerInfo {
            name: "test",
            version: "1",
            platform: "linux",
            architecture: "amd64",
            executor: "shell",
            shell: "bash",
            features: serde_json::json!({}),
        };
        client.request_job(&runner, "r_0", &info, &mut String::new()).await.unwrap();
        assert_eq!(gitlab.job(job).state, JobState::Running);
        let token = gitlab.job(job).token.into();
        Self { gitlab, client, job, token, directory: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    async fn upload(&self, content: &[u8]) -> Result<(), ClientError> {
        let params = ArtifactParams {
            name: "artifacts.zip".to_owned(),
            format: "zip",
            kind: "archive".to_owned(),
            expire_in: Some("1 week".to_owned()),
            access: None,
        };
        let file = self.file("upload", content);
        self.client.upload_artifact(self.job, &self.token, &params, &file).await
    }

    async fn download(&self, limit: u64) -> Result<Fetched, ClientError> {
        let to = self.directory.path().join("download");
        self.client.download_artifact(self.job, &self.token, &to, limit).await
    }
}

#[tokio::test]
async fn what_goes_up_comes_down_also_around_corners() {
    for redirects in [false, true] {
        let options = Options { redirects_uploads: redirects, redirects_downloads: redirects, ..Options::default() };
        let desk = Desk::with(options).await;
        assert_eq!(desk.download(1000).await.unwrap(), Fetched::Absent);
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        desk.upload(&content).await.unwrap();
        let artifact = &desk.gitlab.job(desk.job).artifacts[0];
        let (kind, format) = (artifact.kind.as_str(), artifact.format.as_str());
        assert_eq!((artifact.file_name.as_str(), kind, format), ("artifacts.zip", "archive", "zip"));
        assert_eq!(artifact.expire_in.as_deref(), Some("1 week"));
        assert_eq!(desk.download(1 << 20).await.unwrap(), Fetched::Zip);
        assert!(std::fs::read(desk.directory.path().join("download")).unwrap() == content);
        assert_eq!(desk.gitlab.violations(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn limits_and_refusals_have_their_names_and_leave_nothing() {
    let desk = Desk::with(Options { max_artifact: 1000, ..Options::default() }).await;
    let too_large = desk.upload(&[7; 1001]).await.unwrap_err();
    assert!(matches!(too_large, ClientError::TooLarge { .. }), "{too_large}");
    desk.upload(&[7; 1000]).await.unwrap();
    let too_large = desk.download(999).await.unwrap_err();
    assert!(matches!(too_large, ClientError::TooLarge { .. }), "{too_large}");
    assert!(!desk.directory.path().join("download").exists());
    let wrong: SecretString = "glcbt-wrong".to_owned().into();
    let to = desk.directory.path().join("download");
    let refused = desk.client.download_artifact(desk.job, &wrong, &to, 5000).await.unwrap_err();
    assert!(matches!(refused, ClientError::Forbidden { status: 403, .. }), "{refused}");
    assert!(!format!("{refused:?}").contains("glcbt-"));
}

#[tokio::test]
async fn transfers_are_tried_again_while_gitlab_cannot() {
    let desk = Desk::with(Options::default()).await;
    for kind in [FaultKind::Status(503), FaultKind::LoseAnswer] {
        desk.gitlab.inject(Fault { method: None, path_contains: "/artifacts", kind, times: 1 });
    }
    desk.upload(b"content").await.unwrap();
    assert_eq!(desk.gitlab.job(desk.job).artifacts.len(), 1);
    desk.gitlab.inject(Fault { method: None, path_contains: "/artifacts", kind: FaultKind::Close, times: 1 });
    assert_eq!(desk.download(1000).await.unwrap(), Fetched::Zip);
    desk.gitlab.inject(Fault { method: None, path_contains: "/artifacts", kind: FaultKind::Status(500), times: 99 });
    let error = desk.upload(b"content").await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}
