//! The forges of one service, by the names that deliveries, runs and reports have stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Forge, ForgeError, github};

/// The forges that are configured. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct Forges(Arc<BTreeMap<String, Arc<dyn Forge>>>);

impl Forges {
    /// Forges by their names.
    pub fn new(forges: impl IntoIterator<Item = (String, Arc<dyn Forge>)>) -> Self {
        Self(Arc::new(forges.into_iter().collect()))
    }

    /// The forge of that name.
    ///
    /// # Errors
    /// [`ForgeError::Refused`] if it is not configured any more: it may come back, and is worth a late try.
    pub fn of(&self, name: &str) -> Result<&Arc<dyn Forge>, ForgeError> {
        self.0.get(name).ok_or_else(|| ForgeError::Refused {
            what: format!("asking the forge `{name}`"),
            detail: "the configuration has no forge of this name".to_owned(),
        })
    }

    /// GitHub, if it is configured.
    pub fn github(&self) -> Option<&Arc<dyn Forge>> {
        self.0.get(github::NAME)
    }

    /// All of them, with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<dyn Forge>)> {
        self.0.iter().map(|(name, forge)| (name.as_str(), forge))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_forge_that_is_not_configured_is_named_and_worth_a_late_try() {
        let error = Forges::default().of("gitlab").unwrap_err();
        insta::assert_snapshot!(error, @"asking the forge `gitlab`: the forge refused it: the configuration has no forge of this name");
        assert!(matches!(error, ForgeError::Refused { .. }) && !error.is_retryable());
    }
}
