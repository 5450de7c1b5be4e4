//! The script that gets the sources of GitLab's jobs, with the host's git and its Git LFS in the place of the guest's.

use super::lfs::{Lfs, commit_pointer};
use super::*;

const SCRIPT: &str = include_str!("../../../job/gitlab/get_sources.sh");

/// As jobs' submodules name their instance.
const INSTANCE: &str = "https://gitlab.example.org/";

/// Has `world` be the way to an instance, as a job has it.
async fn of_instance(world: &mut World, url: Url) {
    let (client, authorization) = (GitClient::new().unwrap(), SecretString::from(CREDENTIAL));
    let source = Source::Instance { client, url, authorization };
    world.proxy = GitProxy::new(source, vec![RepoName::parse("acme/site").unwrap()], GitLimits::default());
    world.address = serve_proxy(world.proxy.clone()).await;
}

/// Gets the sources of `acme/site`; gives the place, and what was said.
async fn get_sources(world: &World, sha: &str, more: &[(&str, &str)]) -> (PathBuf, Output) {
    let (place, home) = (world.directory.path().join("got/acme/site"), world.directory.path().join("home"));
    std::fs::create_dir_all(&home).unwrap();
    let base = format!("http://{}/", world.address);
    let with_token = INSTANCE.replace("://", "://gitlab-ci-token:t@");
    let aliases = format!("{INSTANCE}\n{with_token}\ngit@gitlab.example.org:");
    let mut command = Command::new("sh");
    command.args(["-ec", SCRIPT, "sh"]).current_dir(&home).kill_on_drop(true);
    command.env("HOME", &home).env("GIT_CONFIG_NOSYSTEM", "1").env_remove("GIT_CONFIG_GLOBAL");
    command.envs([
        ("GET_ALIASES", aliases.as_str()),
        ("GET_BASE", &base),
        ("GET_PROJECT", "acme/site"),
        ("GET_DIRECTORY", place.to_str().unwrap()),
        ("GET_STRATEGY", "fetch"),
        ("GET_FORMAT", ""),
        ("GET_DEPTH", "1"),
        ("GET_REFSPECS", "+refs/heads/main:refs/remotes/origin/main"),
        ("GET_FETCH_FLAGS", "--prune\n--quiet"),
        ("GET_SHA", sha),
        ("GET_REF", "main"),
        ("GET_CHECKOUT", "yes"),
        ("GET_CLEAN_FLAGS", "-ffdx"),
        ("GET_LFS", "yes"),
        ("GET_SUBMODULES", "none"),
        ("GET_SUBMODULE_DEPTH", "1"),
        ("GET_SUBMODULE_FLAGS", ""),
        ("GET_SUBMODULE_PATHS", ""),
    ]);
    command.envs(more.iter().copied());
    let output = tokio::time::timeout(DEADLINE, command.output()).await.expect("it ends in time").unwrap();
    (place, output)
}

#[tokio::test]
async fn files_of_lfs_and_submodules_come_with_the_jobs_own_credential() {
    if !Command::new("git").args(["lfs", "version"]).output().await.unwrap().status.success() {
        eprintln!("SKIPPED: git-lfs is not installed, so its client is not tried");
        return;
    }
    let mut lfs = Lfs::usual().await;
    let upstream = lfs.upstream.clone();
    of_instance(&mut lfs.world, upstream).await;
    let mut noise = vec![0; 300_000];
    getrandom::fill(&mut noise).unwrap();
    let (ours, theirs) = (lfs.put(&noise), lfs.put(b"of the submodule"));
    let inner = commit_pointer(&lfs.world, "lib", &theirs, 16, &[]).await;
    let link = ["deps/lib", "git@gitlab.example.org:acme/lib.git", &inner];
    let commit = commit_pointer(&lfs.world, "site", &ours, noise.len(), &link).await;

    let (place, output) = get_sources(&lfs.world, &commit, &[("GET_SUBMODULES", "recursive")]).await;
    succeeds(output);
    assert!(std::fs::read(place.join("größe a.bin")).unwrap() == noise);
    assert_eq!(std::fs::read(place.join("deps/lib/größe a.bin")).unwrap(), b"of the submodule");
    assert_eq!(succeeds(git(&place, &["status", "--porcelain"]).await), "");
    let decisions = lfs.world.decisions();
    for told in ["download Git LFS objects of acme/site", "download Git LFS objects of acme/lib"] {
        assert!(decisions.contains(&format!("git: allowed: `{told}`")), "{decisions}");
    }
    // Again in the same place, with nothing to do; then in another one, without files and submodules.
    succeeds(get_sources(&lfs.world, &commit, &[("GET_SUBMODULES", "normal")]).await.1);
    std::fs::remove_dir_all(&place).unwrap();
    succeeds(get_sources(&lfs.world, &commit, &[("GET_LFS", "no")]).await.1);
    let pointer = std::fs::read_to_string(place.join("größe a.bin")).unwrap();
    assert!(pointer.contains(&ours) && !place.join("deps/lib/größe a.bin").exists(), "{pointer}");
}

#[tokio::test]
async fn a_repository_may_name_its_commits_by_sha_256() {
    let mut world = World::usual().await;
    let root = world.directory.path().join("forge");
    let (bare, made) = (root.join("acme/new.git"), world.directory.path().join("new"));
    let form = "--object-format=sha256";
    let init = git(world.directory.path(), &["init", "-q", "--bare", "-b", "main", form, bare.to_str().unwrap()]).await;
    succeeds(init);
    succeeds(git(world.directory.path(), &["init", "-q", "-b", "main", form, made.to_str().unwrap()]).await);
    std::fs::write(made.join("file"), "content\n").unwrap();
    for step in [&["add", "."][..], &["commit", "-q", "-m", "one"], &["push", "-q", bare.to_str().unwrap(), "main"]] {
        succeeds(git(&made, step).await);
    }
    let commit = succeeds(git(&made, &["rev-parse", "HEAD"]).await);
    assert!(commit.len() == 64 && CommitSha::parse(&commit).is_ok());
    let url = serve_backend(Backend { root, seen: Arc::clone(&world.seen) }).await;
    of_instance(&mut world, url).await;
    let told = [("GET_FORMAT", "sha256"), ("GET_PROJECT", "acme/new"), ("GET_LFS", "no")];
    let (place, output) = get_sources(&world, &commit, &told).await;
    succeeds(output);
    assert_eq!(std::fs::read_to_string(place.join("file")).unwrap(), "content\n");
    assert_eq!(succeeds(git(&place, &["rev-parse", "HEAD"]).await), commit);
}
