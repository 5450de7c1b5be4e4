//! The page: the facts about a job, and a script that fills in the log. Pure.

use std::sync::LazyLock;

use axum::http::HeaderValue;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use crate::http::feed::Standing;
use crate::store::{Job, Run};
use crate::workflow::commands::Annotation;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Allows the style and the script of this page by their digests, connections to its own server, and nothing else.
pub(super) static CONTENT_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        digest(SCRIPT),
        digest(STYLE)
    );
    HeaderValue::from_str(&policy).expect("digests in base64 are visible ASCII")
});

fn digest(source: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(source)))
}

/// The page of a job. Addresses in it are relative, so that it works behind any prefix.
pub(super) fn page(job: &Job, run: &Run, annotations: &[Annotation]) -> String {
    let annotations = list(annotations);
    let token = job.log_token.as_str();
    let name = escape(&job.name);
    let workflow = escape(&run.workflow_name);
    let repo = escape(run.access.repo.as_str());
    let event = escape(&run.event);
    let number = run.number;
    let state = Standing::of(job).text;
    let (sha, short) = (run.sha.as_str(), run.sha.short());
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{name} – {repo}</title>
<style>{STYLE}</style>
</head>
<body data-events="{token}/events">
<header>
<h1><bdi>{name}</bdi></h1>
<p id="state" role="status">{state}</p>
<dl>
<div><dt>Repository</dt><dd><bdi>{repo}</bdi></dd></div>
<div><dt>Commit</dt><dd><code title="{sha}">{short}</code></dd></div>
<div><dt>Workflow</dt><dd><bdi>{workflow}</bdi> #{number}, on {event}</dd></div>
</dl>
<p><a href="{token}.txt">Plain text</a></p>
{annotations}</header>
<main id="log" role="log" aria-live="off" aria-label="Log" tabindex="0">
<noscript><p>Without scripts, see the log as <a href="{token}.txt">plain text</a>.</p></noscript>
</main>
<script>{SCRIPT}</script>
</body>
</html>
"#
    )
}

/// What the job's steps said of the code; nothing if they said nothing.
fn list(annotations: &[Annotation]) -> String {
    let item = |told: &Annotation| {
        let place = match (&told.file, told.line) {
            (Some(file), Some(line)) => format!("<code><bdi>{}</bdi>:{line}</code> ", escape(file)),
            (Some(file), None) => format!("<code><bdi>{}</bdi></code> ", escape(file)),
            (None, _) => String::new(),
        };
        let title = told.title.as_ref().map_or_else(String::new, |title| format!("<b>{}</b> ", escape(title)));
        format!("<li>{}: {place}<bdi>{title}{}</bdi></li>\n", told.level.as_str(), escape(&told.message))
    };
    match annotations {
        [] => String::new(),
        some => format!("<ul aria-label=\"Annotations\">\n{}</ul>\n", some.iter().map(item).collect::<String>()),
    }
}

/// Text that is only text, between tags and in quoted attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
