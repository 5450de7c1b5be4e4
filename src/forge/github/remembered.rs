//! Answers that GitHub need not give again: asked whether they have changed, it says no without taking a call from the budget.
//!
//! Only lists and descriptions in JSON are kept, apart for each budget, so that no credential gets what another one may read;
//! and GitHub itself judges each time whether the credential may have the answer.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::header::{ETAG, HeaderValue};
use axum::http::{HeaderMap, Method};

use super::budget::Payer;
use super::client::{Answer, Call, JSON};

/// Largest answer that is kept, and all of them together, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;
const MAX_TOTAL: usize = 16 * 1024 * 1024;

/// Answers that are kept, whatever their size.
const MAX_ANSWERS: usize = 4096;

/// Whose answer, and to what.
type Question = (Payer, String);

/// The last answers to questions that are asked again and again.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    answers: BTreeMap<Question, Known>,
    bytes: usize,
    /// Counts uses: the answer that was used longest ago goes first.
    uses: u64,
}

/// An answer with GitHub's name for it.
#[derive(Debug, Clone)]
struct Known {
    etag: HeaderValue,
    headers: HeaderMap,
    body: Vec<u8>,
    used: u64,
}

impl Remembered {
    /// How GitHub calls the answer that is known.
    pub(super) fn etag(&self, payer: Payer, call: &Call) -> Option<HeaderValue> {
        question(payer, call).and_then(|question| Some(self.lock().answers.get(&question)?.etag.clone()))
    }

    /// GitHub says that the answer is still what is known, with these headers.
    pub(super) fn still(&self, payer: Payer, call: &Call, headers: &HeaderMap) -> Option<Answer> {
        let question = question(payer, call)?;
        let mut kept = self.lock();
        kept.uses += 1;
        let uses = kept.uses;
        let known = kept.answers.get_mut(&question)?;
        known.used = uses;
        let mut told = known.headers.clone();
        told.extend(headers.clone());
        Some(Answer { headers: told, body: known.body.clone(), renamed: None })
    }

    /// Keeps an answer, if it can be asked for again.
    pub(super) fn note(&self, payer: Payer, call: &Call, answer: &Answer) {
        let Some(question) = question(payer, call) else { return };
        let mut kept = self.lock();
        if let Some(old) = kept.answers.remove(&question) {
            kept.bytes -= old.body.len();
        }
        let Some(etag) = answer.headers.get(ETAG).filter(|_| answer.renamed.is_none()) else { return };
        if answer.body.len() > MAX_ANSWER {
            return;
        }
        kept.uses += 1;
        let known =
            Known { etag: etag.clone(), headers: answer.headers.clone(), body: answer.body.clone(), used: kept.uses };
        kept.bytes += known.body.len();
        kept.answers.insert(question, known);
        while kept.bytes > MAX_TOTAL || kept.answers.len() > MAX_ANSWERS {
            let oldest = kept.answers.iter().min_by_key(|(_, known)| known.used).map(|(question, _)| question.clone());
            let Some(gone) = oldest.and_then(|question| kept.answers.remove(&question)) else { break };
            kept.bytes -= gone.body.len();
        }
    }

    /// A panic elsewhere cannot leave it half changed, so poisoning is no reason to stop.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is asked, if it is a question whose answer may be kept.
fn question(payer: Payer, call: &Call) -> Option<Question> {
    (call.method == Method::GET && call.accept == JSON).then(|| (payer, call.url.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn call(method: Method, path: &str) -> Call {
        let url = format!("https://api.example.org/{path}").parse().unwrap();
        Call { what: "x".into(), method, url, accept: JSON, body: None, limit: 1 }
    }

    fn answer(etag: Option<&'static str>, body: &[u8]) -> Answer {
        let headers = etag.map(|etag| (ETAG, HeaderValue::from_static(etag)));
        Answer { headers: headers.into_iter().collect(), body: body.to_vec(), renamed: None }
    }

    #[test]
    fn an_answer_is_known_to_its_own_budget_until_another_one_comes() {
        let remembered = Remembered::default();
        let (runs, other) = (call(Method::GET, "runs"), call(Method::GET, "runs?page=2"));
        remembered.note(Payer::App, &runs, &answer(Some("\"1\""), b"[]"));
        assert_eq!(remembered.etag(Payer::App, &runs).unwrap(), "\"1\"");
        assert_eq!((remembered.etag(Payer::Token, &runs), remembered.etag(Payer::App, &other)), (None, None));
        let mut headers = HeaderMap::new();
        headers.insert("date", HeaderValue::from_static("now"));
        let still = remembered.still(Payer::App, &runs, &headers).unwrap();
        assert_eq!((still.body.as_slice(), still.headers.len()), (b"[]".as_slice(), 2));
        remembered.note(Payer::App, &runs, &answer(None, b"[1]"));
        assert_eq!(remembered.etag(Payer::App, &runs), None, "what has no name cannot be asked for by it");
        remembered.note(Payer::App, &call(Method::POST, "runs"), &answer(Some("\"1\""), b""));
        assert_eq!(remembered.etag(Payer::App, &call(Method::POST, "runs")), None);
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let remembered = Remembered::default();
        let large = vec![b'x'; MAX_ANSWER];
        let calls: Vec<Call> = (0..=16).map(|n| call(Method::GET, &n.to_string())).collect();
        for call in &calls[..16] {
            remembered.note(Payer::Token, call, &answer(Some("\"1\""), &large));
        }
        remembered.still(Payer::Token, &calls[0], &HeaderMap::new()).unwrap();
        remembered.note(Payer::Token, &calls[16], &answer(Some("\"1\""), &large));
        let known: Vec<bool> = calls.iter().map(|call| remembered.etag(Payer::Token, call).is_some()).collect();
        assert_eq!(known.iter().filter(|is| !**is).count(), 1);
        assert!(known[0] && !known[1] && known[16]);
        let too_large = answer(Some("\"1\""), &vec![b'x'; MAX_ANSWER + 1]);
        remembered.note(Payer::Token, &calls[16], &too_large);
        assert_eq!(remembered.etag(Payer::Token, &calls[16]), None);
    }
}
