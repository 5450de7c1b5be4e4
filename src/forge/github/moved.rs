//! Repositories that were renamed or transferred while something here still calls them by their old name. Pure.
//!
//! GitHub answers such calls with the repository's place by its number, which survives renames. That one redirect is
//! followed, within the same API only: the credential goes where it went before.

use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use url::Url;

/// Where a repository is by its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewPlace {
    /// For the same call.
    pub(super) url: Url,
    pub(super) number: u64,
}

/// Where an answer to a call about a repository says that it is, if that is a place of the same API.
pub(super) fn new_place(api: &Url, asked: &Url, status: StatusCode, headers: &HeaderMap) -> Option<NewPlace> {
    if !matches!(status.as_u16(), 301 | 302 | 307 | 308) {
        return None;
    }
    let base = api.path().trim_end_matches('/');
    let below = |url: &Url, what: &str| Some(url.path().strip_prefix(base)?.strip_prefix(what)?.to_owned());
    below(asked, "/repos/")?;
    let url = asked.join(headers.get(LOCATION)?.to_str().ok()?).ok()?;
    let is_same_api = url.origin() == api.origin() && url.username().is_empty() && url.password().is_none();
    let rest = below(&url, "/repositories/").filter(|_| is_same_api)?;
    let number = rest.split('/').next()?.parse().ok()?;
    Some(NewPlace { url, number })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_to_a_number_of_the_same_api_and_nowhere_else() {
        let api = Url::parse("https://forge.example/api/v3").unwrap();
        let asked = Url::parse("https://forge.example/api/v3/repos/demo/old/statuses/abc?page=2").unwrap();
        let place = |status: u16, asked: &Url, location: &str| {
            let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
            new_place(&api, asked, StatusCode::from_u16(status).unwrap(), &headers)
        };
        let there = "https://forge.example/api/v3/repositories/7/statuses/abc?page=2";
        for status in [301, 302, 307, 308] {
            let found = NewPlace { url: Url::parse(there).unwrap(), number: 7 };
            assert_eq!(place(status, &asked, there), Some(found), "{status}");
        }
        assert!(place(301, &asked, "/api/v3/repositories/7").is_some());
        assert_eq!(place(304, &asked, there), None);
        for elsewhere in [
            "https://evil.example/api/v3/repositories/7/statuses/abc",
            "http://forge.example/api/v3/repositories/7/statuses/abc",
            "https://forge.example:8443/api/v3/repositories/7",
            "https://user:secret@forge.example/api/v3/repositories/7",
            "https://forge.example/repositories/7",
            "https://forge.example/api/v3/repositories/../user",
            "https://forge.example/api/v3/repos/demo/new/statuses/abc",
            "https://forge.example/api/v3/repositories/seven",
        ] {
            assert_eq!(place(301, &asked, elsewhere), None, "{elsewhere}");
        }
        let user = Url::parse("https://forge.example/api/v3/user").unwrap();
        assert_eq!(place(301, &user, there), None);
        assert_eq!(new_place(&api, &asked, StatusCode::MOVED_PERMANENTLY, &HeaderMap::new()), None);
    }
}
