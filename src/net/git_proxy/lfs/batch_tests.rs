#![allow(clippy::unwrap_used)]

use super::*;

const FORGE: &str = "https://forge.example/acme/site";

fn oid(letter: char) -> String {
    letter.to_string().repeat(64)
}

fn object(letter: char, size: u64) -> Object {
    Object { oid: Oid::parse(&oid(letter)).unwrap(), size }
}

fn request(changes: &[(&str, Value)]) -> Vec<u8> {
    let mut request = json!({
        "operation": "download", "transfers": ["lfs-standalone-file", "basic", "ssh"], "hash_algo": "sha256",
        "ref": { "name": "refs/heads/main" }, "objects": [{ "oid": oid('a'), "size": 3 }],
    });
    for (key, value) in changes {
        request[key] = value.clone();
    }
    request.to_string().into_bytes()
}

#[test]
fn downloads_are_read_and_nothing_but_ids_and_sizes_goes_on() {
    let twice =
        json!([{ "oid": oid('a'), "size": 3, "x": 1 }, { "oid": oid('b'), "size": 0 }, { "oid": oid('a'), "size": 9 }]);
    let asked = asked(&request(&[("objects", twice), ("secret", json!("word"))])).unwrap();
    assert_eq!(asked, [object('a', 3), object('b', 0)]);
    let composed: Value = serde_json::from_slice(&composed(&asked)).unwrap();
    let objects = json!([{ "oid": oid('a'), "size": 3 }, { "oid": oid('b'), "size": 0 }]);
    assert_eq!(
        composed,
        json!({ "operation": "download", "transfers": ["basic"], "hash_algo": "sha256", "objects": objects })
    );
}

#[test]
fn what_may_be_left_out_may_be_left_out() {
    for changes in [("transfers", Value::Null), ("transfers", json!([])), ("hash_algo", Value::Null)] {
        assert_eq!(asked(&request(std::slice::from_ref(&changes))), Ok(vec![object('a', 3)]), "{changes:?}");
    }
    assert_eq!(asked(&request(&[("objects", json!([]))])), Ok(Vec::new()));
}

#[test]
fn other_requests_are_refused_with_their_reason() {
    let many: Vec<Value> = (0..=MAX_OBJECTS).map(|n| json!({ "oid": format!("{n:064x}"), "size": 1 })).collect();
    let named = |oid: &str| json!([{ "oid": oid, "size": 1 }]);
    let sized = |size: Value| json!([{ "oid": oid('a'), "size": size }]);
    let table = [
        ("operation", json!("upload"), BadRequest::Operation("upload".into())),
        ("operation", json!("Download"), BadRequest::Operation("Download".into())),
        ("operation", Value::Null, BadRequest::Unreadable),
        ("transfers", json!(["tus"]), BadRequest::Transfer),
        ("transfers", json!("basic"), BadRequest::Unreadable),
        ("hash_algo", json!("sha512"), BadRequest::Hash("sha512".into())),
        ("objects", json!(many), BadRequest::TooMany(MAX_OBJECTS + 1)),
        ("objects", named("../../etc/passwd"), BadRequest::Oid("../../etc/passwd".into())),
        ("objects", named(&oid('A')), BadRequest::Oid(oid('A'))),
        ("objects", named(&oid('é')), BadRequest::Oid(oid('é'))),
        ("objects", named(&format!("{}/", &oid('a')[1..])), BadRequest::Oid(format!("{}/", &oid('a')[1..]))),
        ("objects", named(""), BadRequest::Oid(String::new())),
        ("objects", sized(json!(-1)), BadRequest::Unreadable),
        ("objects", sized(json!(1.5)), BadRequest::Unreadable),
        ("objects", sized(json!("1")), BadRequest::Unreadable),
        ("objects", Value::Null, BadRequest::Unreadable),
    ];
    for (key, value, expected) in table {
        assert_eq!(asked(&request(&[(key, value.clone())])), Err(expected), "{key}: {value}");
    }
    for no_json in [&b""[..], b"{", b"\xff", &b"[".repeat(100_000)] {
        assert_eq!(asked(no_json), Err(BadRequest::Unreadable));
    }
}

/// What the forge's answer about `a` comes to.
fn outcome(answer: Value, forge: &str) -> Result<Download, ObjectError> {
    let document = json!({ "transfer": "basic", "objects": [answer] }).to_string();
    let mut results = answered(document.as_bytes(), &[object('a', 3)], &Url::parse(forge).unwrap()).unwrap();
    results.pop().unwrap().1
}

fn with_action(action: Value) -> Value {
    json!({ "oid": oid('a'), "size": 3, "actions": { "download": action } })
}

#[test]
fn addresses_and_headers_of_downloads_are_kept() {
    let href = "https://store.example/a?signature=s3cret";
    let header = json!({ "Authorization": "Bearer t0ken", "X-Meta": "" });
    let download = outcome(with_action(json!({ "href": href, "header": header, "expires_in": 5 })), FORGE).unwrap();
    assert_eq!((download.url.as_str(), download.size, download.headers.len()), (href, 3, 2));
    let shown = format!("{download:?} {:?}", download.headers);
    assert!(!shown.contains("s3cret") && !shown.contains("t0ken"), "{shown}");
    let plain = json!({ "href": "http://store.example/a", "header": null });
    assert!(outcome(with_action(plain.clone()), "http://127.0.0.1:1/acme/site").is_ok());
    assert_eq!(outcome(with_action(plain), FORGE).unwrap_err().code, 502);
}

#[test]
fn hostile_answers_cost_their_object_only() {
    let https = "https://store.example/a";
    let long = format!("{https}{}", "x".repeat(MAX_ADDRESS));
    let heads = |header: Value| with_action(json!({ "href": https, "header": header }));
    let many: BTreeMap<String, String> = (0..=MAX_HEADERS).map(|n| (format!("x-{n}"), String::new())).collect();
    let table = [
        with_action(json!({ "href": "file:///etc/passwd" })),
        with_action(json!({ "href": "/acme/site/a" })),
        with_action(json!({ "href": "ftp://store.example/a" })),
        with_action(json!({ "href": "https://user:word@store.example/a" })),
        with_action(json!({ "href": "" })),
        with_action(json!({ "href": long })),
        heads(json!({ "X-Evil": "a\r\nHost: other" })),
        heads(json!({ "X-Evil": "a\n" })),
        heads(json!({ "X-Evil\r\nHost": "other" })),
        heads(json!({ "": "x" })),
        heads(json!({ "Host": "other" })),
        heads(json!({ "content-length": "7" })),
        heads(json!({ "Transfer-Encoding": "chunked" })),
        heads(json!({ "Range": "bytes=0-0" })),
        heads(json!({ "X-Long": "x".repeat(MAX_HEADER_BYTES) })),
        heads(json!(many)),
    ];
    for answer in table {
        assert_eq!(outcome(answer.clone(), FORGE).unwrap_err().code, 502, "{answer}");
    }
}

#[test]
fn errors_of_objects_are_passed_on_in_few_words() {
    let error = |code: Value, message: &str| {
        outcome(json!({ "oid": oid('a'), "error": { "code": code, "message": message } }), FORGE).unwrap_err()
    };
    assert_eq!(error(json!(404), "gone"), ObjectError::new(404, "the forge says `gone`"));
    assert_eq!(error(json!(401), "log in").code, 403);
    assert_eq!(error(json!(200), "").code, 403);
    assert_eq!(error(json!(-1), "").code, 403);
    let long = error(json!(500), &"\u{1b}[31m\n".repeat(10_000)).message;
    assert!(long.len() < 1_000 && !long.contains(['\u{1b}', '\n']), "{long}");
    let other = outcome(
        json!({ "oid": oid('a'), "size": 4, "actions": { "download": { "href": "https://x.example" } } }),
        FORGE,
    );
    insta::assert_snapshot!(other.unwrap_err().message, @"the object has 4 bytes at the forge, and 3 in the commit");
    for absent in [json!({ "oid": oid('b') }), json!({ "oid": oid('a'), "actions": {} }), json!({ "oid": oid('a') })] {
        assert_eq!(outcome(absent.clone(), FORGE).unwrap_err().code, 404, "{absent}");
    }
}

#[test]
fn what_is_no_answer_is_told_apart() {
    let forge = Url::parse(FORGE).unwrap();
    for document in [
        "",
        "[]",
        r#"{"message": "no"}"#,
        r#"{"objects": [{}]}"#,
        r#"{"objects": [], "transfer": "tus"}"#,
        r#"{"objects": [], "hash_algo": "sha512"}"#,
    ] {
        assert!(answered(document.as_bytes(), &[object('a', 3)], &forge).is_none(), "{document}");
    }
}

#[test]
fn the_guest_is_told_no_address_but_the_proxys() {
    let results = [(object('a', 3), Ok(())), (object('b', 4), Err(ObjectError::new(404, "not here")))];
    let base = "http://127.0.0.1:9418/acme/site.git/info/lfs/objects";
    let answer: Value = serde_json::from_slice(&for_guest(&results, base)).unwrap();
    assert_eq!(answer["objects"][0]["actions"]["download"], json!({ "href": format!("{base}/{}", oid('a')) }));
    assert_eq!(answer["objects"][1]["error"], json!({ "code": 404, "message": "not here" }));
    assert_eq!(answer["objects"][1].get("actions"), None);
}

#[test]
fn the_credential_goes_to_the_forges_origin_where_it_gave_no_other() {
    let (forge, credential) = (Url::parse(FORGE).unwrap(), HeaderValue::from_static("Basic own"));
    let shown = |href: &str, header: Value| {
        let download = outcome(with_action(json!({ "href": href, "header": header })), FORGE).unwrap();
        let headers = with_credential(&download, &forge, Some(credential.clone()));
        headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(shown("https://forge.example/objects/a", json!({})).as_deref(), Some("Basic own"));
    assert_eq!(shown("https://forge.example/a", json!({ "authorization": "Bearer b" })).as_deref(), Some("Bearer b"));
    assert_eq!(shown("https://forge.example:8443/a", json!({})), None);
    assert_eq!(shown("https://store.forge.example/a", json!({})), None);
}
