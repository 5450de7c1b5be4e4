//! What GitHub says is left of its rate limits. Every answer says it, so nothing is asked for it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::HeaderMap;

use super::classify::number;
use crate::forge::{APP_BUDGET, Budget};

/// Budgets that are remembered. Beyond it the one that is renewed first is forgotten: it says least.
const MAX_BUDGETS: usize = 1024;

/// Whose budget a call is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Payer {
    App,
    Installation(u64),
    Token,
}

impl fmt::Display for Payer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App => out.write_str(APP_BUDGET),
            Self::Installation(id) => write!(out, "installation {id}"),
            Self::Token => out.write_str("token"),
        }
    }
}

/// The last known state of each budget.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    known: Mutex<BTreeMap<Payer, Budget>>,
}

impl Budgets {
    /// Remembers what an answer says. Search and the like have budgets of their own, which are none of these.
    pub(super) fn note(&self, payer: Payer, headers: &HeaderMap) {
        let is_core = headers.get("x-ratelimit-resource").is_none_or(|resource| resource == "core");
        let Some(budget) = read(headers).filter(|_| is_core) else { return };
        let mut known = self.lock();
        known.insert(payer, budget);
        if known.len() > MAX_BUDGETS {
            let first_renewed = known.iter().min_by_key(|(_, budget)| budget.resets_at).map(|(payer, _)| *payer);
            first_renewed.map(|payer| known.remove(&payer));
        }
    }

    /// Those whose window has not ended at `now`; of the others nothing is known any more.
    pub(super) fn current(&self, now: i64) -> Vec<(String, Budget)> {
        let known = self.lock();
        let current = known.iter().filter(|(_, budget)| budget.resets_at > now);
        current.map(|(payer, budget)| (payer.to_string(), *budget)).collect()
    }

    /// A panic elsewhere cannot leave the map half changed, so poisoning is no reason to stop.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Payer, Budget>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(headers: &HeaderMap) -> Option<Budget> {
    let seconds = i64::try_from(number(headers, "x-ratelimit-reset")?).ok()?;
    Some(Budget {
        limit: number(headers, "x-ratelimit-limit")?,
        remaining: number(headers, "x-ratelimit-remaining")?,
        resets_at: seconds.checked_mul(1000)?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
        pairs.iter().map(pair).collect()
    }

    fn full(remaining: &'static str, reset: &'static str) -> Vec<(&'static str, &'static str)> {
        vec![("x-ratelimit-limit", "5000"), ("x-ratelimit-remaining", remaining), ("x-ratelimit-reset", reset)]
    }

    #[test]
    fn the_last_whole_word_about_each_budget_counts() {
        let budgets = Budgets::default();
        budgets.note(Payer::Token, &headers(&full("10", "1700")));
        budgets.note(Payer::Token, &headers(&full("9", "1700")));
        budgets.note(Payer::Token, &headers(&[("x-ratelimit-remaining", "3")]));
        budgets.note(Payer::Token, &headers(&full("nine", "1700")));
        budgets.note(Payer::Token, &headers(&full("8", "99999999999999999999")));
        let mut search = full("1", "1700");
        search.push(("x-ratelimit-resource", "search"));
        budgets.note(Payer::Token, &headers(&search));
        budgets.note(Payer::Installation(815), &headers(&full("5000", "1800")));
        let budget = |remaining, resets_at| Budget { limit: 5000, remaining, resets_at };
        assert_eq!(
            budgets.current(0),
            [("installation 815".to_owned(), budget(5000, 1_800_000)), ("token".to_owned(), budget(9, 1_700_000))]
        );
        assert_eq!(budgets.current(1_700_000).len(), 1, "a window that has ended says nothing");
    }

    #[test]
    fn only_so_many_are_remembered() {
        let budgets = Budgets::default();
        for id in 0..2 * MAX_BUDGETS as u64 {
            let reset = (1000 + id).to_string();
            let pairs =
                [("x-ratelimit-limit", "5000"), ("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", reset.as_str())];
            budgets.note(Payer::Installation(id), &headers(&pairs));
        }
        assert_eq!(budgets.current(0).len(), MAX_BUDGETS);
    }
}
