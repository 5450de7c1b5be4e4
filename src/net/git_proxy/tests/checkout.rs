//! The script of the native checkout, with the host's git in the place of the guest's.

use super::*;
use crate::job::checkout::{Origin, SCRIPT, Workspace, arguments};
use crate::workflow::model::Submodules;
use crate::workflow::run::{CheckoutPlan, Sparse, Wanted};

/// A world in which anybody may fetch `acme/open`: two branches, a tag, and files in two directories.
async fn world() -> World {
    let mut world = World::usual().await;
    let root = world.directory.path().join("forge");
    for (name, files) in [("open", ["src/a", "docs/b", "top"]), ("site", ["src/s", "docs/t", "main"])] {
        let bare = root.join(format!("acme/{name}.git"));
        let made = world.directory.path().join(name);
        succeeds(git(world.directory.path(), &["init", "-q", "-b", "main", made.to_str().unwrap()]).await);
        for file in files {
            std::fs::create_dir_all(made.join(file).parent().unwrap()).unwrap();
            std::fs::write(made.join(file), file).unwrap();
        }
        let steps: [&[&str]; 9] = [
            &["init", "-q", "--bare", "-b", "main", bare.to_str().unwrap()],
            &["add", "."],
            &["commit", "-q", "-m", "one"],
            &["tag", "-a", "-m", "first", "v1"],
            &["checkout", "-q", "-b", "feature/x"],
            &["commit", "-q", "--allow-empty", "-m", "two"],
            &["checkout", "-q", "main"],
            &["push", "-q", "--force", "--tags", bare.to_str().unwrap(), "main", "feature/x"],
            &["-C", bare.to_str().unwrap(), "config", "uploadpack.allowFilter", "true"],
        ];
        for step in steps {
            succeeds(git(&made, step).await);
        }
    }
    let forge = GitOnly {
        address: serve_backend(Backend { root, seen: Arc::clone(&world.seen) }).await,
        authorization: Some(CREDENTIAL),
    };
    let public = Some((GitClient::new().unwrap(), forge.address.clone()));
    let (client, name) = (GitClient::new().unwrap(), "forge".to_owned());
    let forges = Forges::new([(name.clone(), Arc::new(forge) as Arc<dyn Forge>)]);
    let source = Source::Forge { client, forges, name, installation: None };
    world.proxy =
        GitProxy::with_public(source, vec![RepoName::parse("acme/site").unwrap()], public, GitLimits::default());
    world.address = serve_proxy(world.proxy.clone()).await;
    world
}

fn plan(repository: Option<&str>, wanted: Wanted) -> CheckoutPlan {
    CheckoutPlan {
        repository: repository.map(|name| RepoName::parse(name).unwrap()),
        wanted,
        filter: None,
        sparse: None,
        directory: "here".into(),
        fetch_depth: 1,
        fetch_tags: false,
        clean: true,
        submodules: Submodules::None,
        lfs: false,
    }
}

impl World {
    /// What `git log` and `git status -b` say after the checkout, and the files that are there; or what it complained about.
    async fn check_out(&self, plan: &CheckoutPlan, pinned: &str) -> Result<String, String> {
        let repo = RepoName::parse("acme/site").unwrap();
        let mut given =
            arguments(plan, Origin { repo: &repo, forge_url: "https://f.example" }, pinned, Workspace::Empty);
        given[1] = given[1].replace("127.0.0.1:9418", &self.address);
        let mut command = Command::new("sh");
        command.args(["-ec", SCRIPT, "sh"]).args(given).current_dir(self.directory.path()).kill_on_drop(true);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("LC_ALL", "C");
        command.env("GITHUB_OUTPUT", self.directory.path().join("output")).env("GITHUB_REF", "refs/heads/main");
        let output = tokio::time::timeout(DEADLINE, command.output()).await.unwrap().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).replace(&self.address, "PROXY").trim().to_owned());
        }
        let here = self.directory.path().join("here");
        let log = succeeds(git(&here, &["log", "--format=%s"]).await).replace('\n', "<-");
        let branch = succeeds(git(&here, &["branch", "--show-current"]).await);
        let mut files = Vec::new();
        for name in ["src/a", "docs/b", "top", "src/s", "docs/t", "main", "left"] {
            if here.join(name).exists() {
                files.push(name);
            }
        }
        Ok(format!("{log} on `{branch}`: {}", files.join(" ")))
    }
}

#[tokio::test]
async fn a_checkout_is_of_what_was_asked_for() {
    let world = world().await;
    let pinned = succeeds(git(&world.directory.path().join("site"), &["rev-parse", "main"]).await);
    let named = |name: &str| Wanted::Named(name.to_owned());
    let own = world.check_out(&plan(None, Wanted::Pinned), &pinned).await;
    assert_eq!(own.unwrap(), "one on ``: src/s docs/t main");
    let branch = CheckoutPlan { fetch_depth: 0, ..plan(None, named("feature/x")) };
    assert_eq!(world.check_out(&branch, &pinned).await.unwrap(), "two<-one on `feature/x`: src/s docs/t main");
    let output = std::fs::read_to_string(world.directory.path().join("output")).unwrap();
    assert!(output.starts_with(&format!("ref=refs/heads/main\ncommit={pinned}\nref=feature/x\ncommit=")), "{output}");

    std::fs::write(world.directory.path().join("here/left"), "").unwrap();
    let open = Some("acme/open");
    for (name, expected) in [
        ("", "one on ``: src/a docs/b top"),
        ("v1", "one on ``: src/a docs/b top"),
        ("refs/tags/v1", "one on ``: src/a docs/b top"),
        ("refs/heads/main", "one on `main`: src/a docs/b top"),
        ("feature/x", "two on `feature/x`: src/a docs/b top"),
    ] {
        assert_eq!(world.check_out(&plan(open, named(name)), &pinned).await.unwrap(), expected, "{name}");
    }
    let commit = succeeds(git(&world.directory.path().join("open"), &["rev-parse", "feature/x"]).await);
    assert_eq!(
        world.check_out(&plan(open, named(&commit)), &pinned).await.unwrap(),
        "two on ``: src/a docs/b top",
        "a commit by its id"
    );
    let missing = world.check_out(&plan(open, named("gone")), &pinned).await.unwrap_err();
    assert_eq!(missing, "error: http://PROXY/acme/open has no branch or tag `gone`");
    let private = world.check_out(&plan(Some("acme/other"), named("")), &pinned).await.unwrap_err();
    assert!(private.contains("acme/other"), "{private}");
    assert!(world.decisions().contains("`acme/other` is not public"), "{}", world.decisions());
}

#[tokio::test]
async fn a_checkout_may_have_some_files_only() {
    let world = world().await;
    let wanted = || Wanted::Named(String::new());
    let sparse =
        |patterns: &[&str], cone| Some(Sparse { patterns: patterns.iter().map(|p| (*p).to_owned()).collect(), cone });
    let cone = CheckoutPlan { sparse: sparse(&["docs"], true), ..plan(Some("acme/open"), wanted()) };
    assert_eq!(
        world.check_out(&cone, "").await.unwrap(),
        "one on ``: docs/b top",
        "files at the top belong to each cone"
    );
    let patterns = CheckoutPlan { sparse: sparse(&["/src/*", "!/top"], false), ..cone.clone() };
    assert_eq!(world.check_out(&patterns, "").await.unwrap(), "one on ``: src/a");
    let all = CheckoutPlan { sparse: None, filter: Some("blob:none".into()), ..cone };
    assert_eq!(world.check_out(&all, "").await.unwrap(), "one on ``: src/a docs/b top");
}
