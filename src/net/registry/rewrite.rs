//! Addresses in a registry's documents, turned into those by which the guest asks. Pure.
//!
//! Only what leads below the registry's own address is changed. What leads elsewhere stays as it is: the guest goes there by
//! its own means, if it may.

use url::Url;

/// The address at which a guest finds what is at `url`, if that is below `base`. `guest` is where the guest finds `base`.
pub fn localized(url: &Url, base: &Url, guest: &str) -> Option<String> {
    // Registries behind a proxy that adds TLS often write `http`.
    let is_same_host = url.host() == base.host()
        && (url.port_or_known_default() == base.port_or_known_default()
            || (url.scheme() == "http" && url.port().is_none() && base.port().is_none()));
    let rest = url.path().strip_prefix(base.path()).filter(|_| is_same_host)?;
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let fragment = url.fragment().map(|fragment| format!("#{fragment}")).unwrap_or_default();
    Some(format!("{guest}{rest}{query}{fragment}"))
}

/// Rewrites the strings that are values of `key`, anywhere in a JSON document. Everything else stays, byte for byte.
pub fn json(document: &[u8], key: &str, page: &Url, base: &Url, guest: &str) -> Vec<u8> {
    let needle = format!("\"{key}\"");
    rewrite(document, needle.as_bytes(), |after| {
        let start = skip(after, 0, b':').filter(|&at| after.get(at) == Some(&b'"'))?;
        let length = string_end(&after[start + 1..])? + 2;
        let text: String = serde_json::from_slice(&after[start..start + length]).ok()?;
        let local = serde_json::to_string(&resolved(&text, page, base, guest)?).ok()?;
        Some((start, length, local))
    })
}

/// Rewrites the addresses of links in an HTML page. Relative ones become whole, as the guest may see them from elsewhere.
pub fn html(page_text: &[u8], page: &Url, base: &Url, guest: &str) -> Vec<u8> {
    rewrite(page_text, b"href", |after| {
        let start = skip(after, 0, b'=')?;
        let quote = after.get(start).copied().filter(|b| matches!(b, b'"' | b'\''))?;
        let length = after[start + 1..].iter().position(|&b| b == quote)?;
        let text = std::str::from_utf8(&after[start + 1..start + 1 + length]).ok()?;
        let local = resolved(&text.replace("&amp;", "&"), page, base, guest)?;
        Some((start + 1, length, local.replace('&', "&amp;").replace('"', "&quot;").replace('\'', "&#39;")))
    })
}

/// The address as the guest needs it; nothing if it is none. A mere fragment stays.
fn resolved(text: &str, page: &Url, base: &Url, guest: &str) -> Option<String> {
    if text.starts_with('#') {
        return None;
    }
    let url = page.join(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    Some(localized(&url, base, guest).unwrap_or_else(|| url.into()))
}

/// Replaces what `change` says behind each `needle`: a place, a length, and what comes there.
fn rewrite(document: &[u8], needle: &[u8], change: impl Fn(&[u8]) -> Option<(usize, usize, String)>) -> Vec<u8> {
    let mut out = Vec::with_capacity(document.len());
    let mut rest = document;
    while let Some(at) = find(rest, needle) {
        let (before, after) = rest.split_at(at + needle.len());
        out.extend_from_slice(before);
        rest = after;
        if let Some((start, length, text)) = change(after) {
            out.extend_from_slice(&after[..start]);
            out.extend_from_slice(text.as_bytes());
            rest = &after[start + length..];
        }
    }
    out.extend_from_slice(rest);
    out
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle[0].to_ascii_lowercase();
    let mut from = 0;
    // The first letter alone is looked for fast: documents have tens of megabytes.
    while let Some(at) = text[from..].iter().position(|b| b.to_ascii_lowercase() == first) {
        let at = from + at;
        if text.get(at..at + needle.len()).is_some_and(|found| found.eq_ignore_ascii_case(needle)) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// The place behind `expected` and blanks around it.
fn skip(text: &[u8], from: usize, expected: u8) -> Option<usize> {
    let blanks = |from: usize| text[from..].iter().take_while(|b| b.is_ascii_whitespace()).count() + from;
    let at = blanks(from);
    (text.get(at) == Some(&expected)).then(|| blanks(at + 1))
}

/// The place of the quote that ends a JSON string.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    text.iter().position(|&b| {
        let ends = b == b'"' && !is_escaped;
        is_escaped = b == b'\\' && !is_escaped;
        ends
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GUEST: &str = "http://127.0.0.1:3129/one/";

    fn base() -> Url {
        Url::parse("https://r.example/repo/").unwrap()
    }

    fn page() -> Url {
        base().join("simple/box/").unwrap()
    }

    #[test]
    fn tarballs_are_found_where_the_guest_asks() {
        let document = br#"{"name":"@acme/box","readme":"\"tarball\": \"https://r.example/repo/x\"","versions":{
            "1.0.0":{"dist":{"integrity":"sha512-x","tarball" : "https:\/\/r.example\/repo\/@acme\/box\/-\/box-1.0.0.tgz"}},
            "1.1.0":{"dist":{"tarball":"http://r.example/repo/@acme/box/-/box-1.1.0.tgz?a=1"}},
            "2.0.0":{"dist":{"tarball":"https://cdn.example/box-2.0.0.tgz"}},
            "3.0.0":{"dist":{"tarball":null}}}}"#;
        let told = String::from_utf8(json(document, "tarball", &page(), &base(), GUEST)).unwrap();
        insta::assert_snapshot!(told, @r#"
        {"name":"@acme/box","readme":"\"tarball\": \"https://r.example/repo/x\"","versions":{
                    "1.0.0":{"dist":{"integrity":"sha512-x","tarball" : "http://127.0.0.1:3129/one/@acme/box/-/box-1.0.0.tgz"}},
                    "1.1.0":{"dist":{"tarball":"http://127.0.0.1:3129/one/@acme/box/-/box-1.1.0.tgz?a=1"}},
                    "2.0.0":{"dist":{"tarball":"https://cdn.example/box-2.0.0.tgz"}},
                    "3.0.0":{"dist":{"tarball":null}}}}
        "#);
        assert!(serde_json::from_str::<serde_json::Value>(&told).is_ok());
    }

    #[test]
    fn links_of_a_simple_index_are_whole() {
        let document = br##"<a href="../../packages/box-1.whl#sha256=ab" data-core-metadata="sha256=cd">1</a>
<A HREF = '/repo/packages/box-2.whl'>2</A> <a href="https://files.example/box-3.whl?a=1&amp;b=2">3</a>
<a href="/other/box-4.whl">4</a> <a href="#top">5</a> <a href=bare>6</a> <a href="mailto:x@y">7</a>"##;
        insta::assert_snapshot!(String::from_utf8(html(document, &page(), &base(), GUEST)).unwrap(), @r##"
        <a href="http://127.0.0.1:3129/one/packages/box-1.whl#sha256=ab" data-core-metadata="sha256=cd">1</a>
        <A HREF = 'http://127.0.0.1:3129/one/packages/box-2.whl'>2</A> <a href="https://files.example/box-3.whl?a=1&amp;b=2">3</a>
        <a href="https://r.example/other/box-4.whl">4</a> <a href="#top">5</a> <a href=bare>6</a> <a href="mailto:x@y">7</a>
        "##);
    }

    proptest! {
        #[test]
        fn no_document_makes_it_panic_or_lose_anything(text in "(href|\"url\"|[=:\"' \\\\/a-z#]|https://r.example/repo/x){0,40}") {
            let (as_json, as_html) =
                (json(text.as_bytes(), "url", &page(), &base(), GUEST), html(text.as_bytes(), &page(), &base(), GUEST));
            if !text.contains("href") {
                prop_assert_eq!(&as_html, text.as_bytes());
            }
            if !text.contains("\"url\"") {
                prop_assert_eq!(&as_json, text.as_bytes());
            }
        }
    }
}
