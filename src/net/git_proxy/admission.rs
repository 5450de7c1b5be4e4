//! Which requests of a guest are fetches of repositories that it may have. Pure; everything that is not recognised is refused.

use std::fmt;

use axum::http::{Method, Uri};
use url::Url;

use super::lfs::batch::Oid;
use crate::document::reader::quoted;
use crate::forge::RepoName;

/// What is asked of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Git(Fetch),
    Lfs(LfsRequest),
}

/// The two requests of a fetch over smart HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// `GET …/info/refs?service=git-upload-pack`
    Advertise,
    /// `POST …/git-upload-pack`
    UploadPack,
}

/// The two requests of a download of Git LFS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LfsRequest {
    /// `POST …/info/lfs/objects/batch`, whose content decides whether it is one.
    Batch,
    /// `GET …/info/lfs/objects/OID`
    Object(Oid),
}

/// A request that may be made at the forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// As the host writes it, whatever case the guest used.
    pub repo: RepoName,
    /// Whether it is none of the guest's own: it is asked for without a credential, so that only what is public is there.
    pub is_public: bool,
    pub service: Service,
}

impl Fetch {
    /// The address of this request at the repository at `repository` (without `.git`).
    pub fn upstream_url(self, repository: &Url) -> Url {
        let mut url = repository.clone();
        let base = repository.path().trim_end_matches('/');
        match self {
            Self::Advertise => {
                url.set_path(&format!("{base}.git/info/refs"));
                url.set_query(Some("service=git-upload-pack"));
            }
            Self::UploadPack => {
                url.set_path(&format!("{base}.git/git-upload-pack"));
                url.set_query(None);
            }
        }
        url
    }
}

impl fmt::Display for Admitted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.service {
            Service::Git(Fetch::Advertise) => write!(out, "look up commits of {}", self.repo),
            Service::Git(Fetch::UploadPack) => write!(out, "fetch from {}", self.repo),
            Service::Lfs(LfsRequest::Batch) => write!(out, "look up Git LFS objects of {}", self.repo),
            // Without the id: there may be thousands, and the list of decisions is short.
            Service::Lfs(LfsRequest::Object(_)) => write!(out, "download Git LFS objects of {}", self.repo),
        }
    }
}

/// Why a request is not made. Its text is shown by git in the job's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Push,
    OtherRepository(RepoName),
    NotAFetch,
    /// Of Git LFS: uploads, locks, checks of them.
    NotADownload,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Push => out.write_str("jobs cannot push: this is a read-only copy of the repository"),
            Self::OtherRepository(repo) => {
                write!(
                    out,
                    "{} is neither this job's repository nor a submodule that it may fetch, and its profile's `egress` does not \
                     reach the forge",
                    quoted(repo.as_str())
                )
            }
            Self::NotAFetch => out.write_str("only git fetches over smart HTTP are served here"),
            Self::NotADownload => out.write_str("jobs can only download from Git LFS: no uploads, no locks"),
        }
    }
}

/// Decides about one request, given the repositories that the guest may fetch, and whether it may fetch public ones, too.
pub fn admit(method: &Method, target: &Uri, repositories: &[RepoName], may_public: bool) -> Result<Admitted, Refusal> {
    let Admitted { repo: asked, service, .. } = admit_any(method, target)?;
    // Forges do not tell repositories apart by case, and `.gitmodules` files rely on that.
    let known = repositories.iter().find(|known| known.as_str().eq_ignore_ascii_case(asked.as_str()));
    match known {
        Some(repo) => Ok(Admitted { repo: repo.clone(), is_public: false, service }),
        None if may_public => Ok(Admitted { repo: asked, is_public: true, service }),
        None => Err(Refusal::OtherRepository(asked)),
    }
}

/// The same where the forge itself decides what the job's own credential may read.
pub fn admit_any(method: &Method, target: &Uri) -> Result<Admitted, Refusal> {
    // `GET http://elsewhere/…` and CONNECT: this is no general proxy.
    if target.scheme().is_some() || target.authority().is_some() {
        return Err(Refusal::NotAFetch);
    }
    // Only letters that need no decoding: what is compared here is what everybody else would read.
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.');
    let path = target.path().strip_prefix('/').filter(|path| path.bytes().all(is_plain)).ok_or(Refusal::NotAFetch)?;
    let (repo, service) = match target.query() {
        _ if lfs_at(path).is_some() => {
            let (repo, asked) = lfs_at(path).unwrap_or_default();
            (repo, Service::Lfs(lfs_request(method, target, asked).ok_or(Refusal::NotADownload)?))
        }
        Some("service=git-receive-pack") if path.ends_with("/info/refs") => return Err(Refusal::Push),
        _ if path.ends_with("/git-receive-pack") => return Err(Refusal::Push),
        Some("service=git-upload-pack") if method == Method::GET => {
            (path.strip_suffix("/info/refs").ok_or(Refusal::NotAFetch)?, Service::Git(Fetch::Advertise))
        }
        None if method == Method::POST => {
            (path.strip_suffix("/git-upload-pack").ok_or(Refusal::NotAFetch)?, Service::Git(Fetch::UploadPack))
        }
        _ => return Err(Refusal::NotAFetch),
    };
    let name = repo.strip_suffix(".git").unwrap_or(repo);
    let repo = RepoName::parse_path(name).map_err(|_| Refusal::NotAFetch)?;
    Ok(Admitted { repo, is_public: false, service })
}

/// The repository and what is asked of it, where Git LFS asks.
fn lfs_at(path: &str) -> Option<(&str, &str)> {
    path.split_once("/info/lfs/").or_else(|| path.strip_suffix("/info/lfs").map(|repo| (repo, "")))
}

fn lfs_request(method: &Method, target: &Uri, asked: &str) -> Option<LfsRequest> {
    let objects = asked.strip_prefix("objects/").filter(|_| target.query().is_none())?;
    match (method, objects) {
        (&Method::POST, "batch") => Some(LfsRequest::Batch),
        (&Method::GET, oid) => Oid::parse(oid).map(LfsRequest::Object),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn repositories() -> Vec<RepoName> {
        ["acme/site", "acme/lib.rs"].map(|name| RepoName::parse(name).unwrap()).to_vec()
    }

    fn decide(method: &Method, target: &str) -> Result<Admitted, Refusal> {
        admit(method, &target.parse().unwrap(), &repositories(), false)
    }

    #[test]
    fn fetches_of_the_allowed_repositories_are_admitted() {
        let base = Url::parse("https://forge.example/prefix/acme/site").unwrap();
        let table = [
            (Method::GET, "/acme/site/info/refs?service=git-upload-pack", ".git/info/refs?service=git-upload-pack"),
            (Method::GET, "/ACME/Site.git/info/refs?service=git-upload-pack", ".git/info/refs?service=git-upload-pack"),
            (Method::POST, "/acme/site.git/git-upload-pack", ".git/git-upload-pack"),
        ];
        for (method, target, upstream) in table {
            let admitted = decide(&method, target).unwrap();
            assert_eq!(admitted.repo.as_str(), "acme/site");
            let Service::Git(fetch) = admitted.service else { panic!("{target}") };
            assert_eq!(fetch.upstream_url(&base).as_str(), format!("{base}{upstream}"), "{target}");
        }
        assert_eq!(decide(&Method::POST, "/acme/lib.rs/git-upload-pack").unwrap().repo.as_str(), "acme/lib.rs");
    }

    #[test]
    fn downloads_of_lfs_are_admitted_and_nothing_else_of_it() {
        let oid = "0123456789abcdef".repeat(4);
        let object = format!("/acme/site.git/info/lfs/objects/{oid}");
        let batch = "/ACME/site.git/info/lfs/objects/batch";
        let known = Oid::parse(&oid).unwrap();
        assert_eq!(decide(&Method::POST, batch).unwrap().service, Service::Lfs(LfsRequest::Batch));
        assert_eq!(decide(&Method::GET, &object).unwrap().service, Service::Lfs(LfsRequest::Object(known)));
        let other = Refusal::OtherRepository(RepoName::parse("acme/other").unwrap());
        assert_eq!(decide(&Method::POST, "/acme/other.git/info/lfs/objects/batch"), Err(other));
        let table = [
            (Method::GET, batch.to_owned()),
            (Method::POST, format!("{batch}?x=1")),
            (Method::PUT, object.clone()),
            (Method::HEAD, object.clone()),
            (Method::GET, format!("{object}0")),
            (Method::GET, format!("{object}/verify")),
            (
                Method::GET,
                object.to_uppercase().replace("/ACME/SITE.GIT/INFO/LFS/OBJECTS", "/acme/site.git/info/lfs/objects"),
            ),
            (Method::GET, "/acme/site.git/info/lfs/objects/..".to_owned()),
            (Method::GET, "/acme/site.git/info/lfs/objects/../batch".to_owned()),
            (Method::GET, "/acme/site.git/info/lfs/locks".to_owned()),
            (Method::POST, "/acme/site.git/info/lfs/locks".to_owned()),
            (Method::POST, "/acme/site.git/info/lfs/locks/verify".to_owned()),
            (Method::POST, "/acme/site.git/info/lfs".to_owned()),
        ];
        for (method, target) in table {
            assert_eq!(decide(&method, &target), Err(Refusal::NotADownload), "{method} {target}");
        }
    }

    #[test]
    fn projects_are_in_groups_of_groups() {
        let asked = |target: &str| admit_any(&Method::GET, &target.parse().unwrap());
        let admitted = asked("/acme/web/site.git/info/refs?service=git-upload-pack").unwrap();
        assert_eq!((admitted.repo.as_str(), admitted.service), ("acme/web/site", Service::Git(Fetch::Advertise)));
        for refused in ["/site.git", "/acme//site.git", "/acme/../site.git", ""] {
            let target = format!("{refused}/info/refs?service=git-upload-pack");
            assert_eq!(asked(&target), Err(Refusal::NotAFetch), "{target}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        let other = Refusal::OtherRepository(RepoName::parse("acme/other").unwrap());
        let table = [
            (Method::GET, "/acme/site/info/refs?service=git-receive-pack", Refusal::Push),
            (Method::POST, "/acme/site.git/git-receive-pack", Refusal::Push),
            (Method::POST, "/acme/other/git-upload-pack", other.clone()),
            (Method::GET, "/acme/other.git/info/refs?service=git-upload-pack", other),
            (Method::GET, "/acme/site/info/refs", Refusal::NotAFetch),
            (Method::GET, "/acme/site/info/refs?service=git-upload-pack&x=1", Refusal::NotAFetch),
            (Method::GET, "/acme/site/info/refs?x=1&service=git-upload-pack", Refusal::NotAFetch),
            (Method::POST, "/acme/site/git-upload-pack?x", Refusal::NotAFetch),
            (Method::POST, "/acme/site/info/refs?service=git-upload-pack", Refusal::NotAFetch),
            (Method::HEAD, "/acme/site/info/refs?service=git-upload-pack", Refusal::NotAFetch),
            (Method::GET, "/acme/site/git-upload-pack", Refusal::NotAFetch),
            (Method::GET, "/acme/site/HEAD", Refusal::NotAFetch),
            (Method::GET, "/acme/site/objects/info/packs", Refusal::NotAFetch),
            (Method::GET, "/acme/site/../other/info/refs?service=git-upload-pack", Refusal::NotAFetch),
            (Method::GET, "/../site/info/refs?service=git-upload-pack", Refusal::NotAFetch),
            (Method::GET, "/acme/..git/info/refs?service=git-upload-pack", Refusal::NotAFetch),
            (Method::GET, "/acme/.git/info/refs?service=git-upload-pack", Refusal::NotAFetch),
            (Method::GET, "/acme%2Fsite/info/refs?service=git-upload-pack", Refusal::NotAFetch),
            (Method::GET, "/acme/sit%65/info/refs?service=git-upload-pack", Refusal::NotAFetch),
            (Method::GET, "//acme/site/info/refs?service=git-upload-pack", Refusal::NotAFetch),
            (Method::GET, "/acme/site//info/refs?service=git-upload-pack", Refusal::NotAFetch),
            (Method::GET, "/acme/site/info/refs/?service=git-upload-pack", Refusal::NotAFetch),
            (Method::POST, "http://evil.example/acme/site/git-upload-pack", Refusal::NotAFetch),
            (Method::CONNECT, "evil.example:443", Refusal::NotAFetch),
            (Method::OPTIONS, "*", Refusal::NotAFetch),
        ];
        for (method, target, refusal) in table {
            assert_eq!(decide(&method, target), Err(refusal), "{method} {target}");
        }
    }

    proptest! {
        /// Whatever the guest asks for, the forge is asked for an allowed repository or not at all.
        #[test]
        fn only_composed_addresses_reach_the_forge(path in "/(acme|ACME|\\.\\.|%2e)?/?(site|other|[.a-z%/]{0,6})(\\.git)?/(info/refs|git-upload-pack|[a-z/-]{0,12})", post: bool, may_public: bool) {
            let method = if post { Method::POST } else { Method::GET };
            let query = if post { "" } else { "?service=git-upload-pack" };
            if let Ok(target) = format!("{path}{query}").parse::<Uri>()
                && let Ok(admitted) = admit(&method, &target, &repositories(), may_public)
            {
                prop_assert!(may_public || !admitted.is_public);
                prop_assert_eq!(repositories().contains(&admitted.repo), !admitted.is_public);
            }
        }
    }
}
