//! Requests of a guest's git → what the forge is asked: an allowed repository or nothing.
#![no_main]

use std::sync::LazyLock;

use axum::http::{Method, Uri};
use dayfly::forge::RepoName;
use dayfly::net::git_proxy::admission::{Service, admit};
use libfuzzer_sys::fuzz_target;
use url::Url;

static REPOSITORIES: LazyLock<Vec<RepoName>> =
    LazyLock::new(|| ["acme/site", "acme/lib.rs"].map(|name| RepoName::parse(name).expect("a name")).to_vec());

fuzz_target!(|input: (u8, &str)| {
    let (method, target) = input;
    let method = [Method::GET, Method::POST, Method::HEAD, Method::CONNECT][usize::from(method) % 4].clone();
    let Ok(target) = target.parse::<Uri>() else { return };
    if let Ok(admitted) = admit(&method, &target, &REPOSITORIES) {
        assert!(REPOSITORIES.contains(&admitted.repo));
        let Service::Git(fetch) = admitted.service else { return };
        let base = Url::parse(&format!("https://forge.example/{}", admitted.repo)).expect("an address");
        let asked = fetch.upstream_url(&base).to_string();
        let rest = asked.strip_prefix(base.as_str()).expect("it stays below the repository");
        assert!([".git/info/refs?service=git-upload-pack", ".git/git-upload-pack"].contains(&rest));
    }
});
