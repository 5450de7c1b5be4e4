//! Whether VMs can have network cards, which only profiles with `egress` mode `nat` take.

use super::finding::Finding;
use super::subject::Subject;
use crate::config::Backend;
use crate::host::wire;
use crate::net::egress::policy::Mode;

const ID: &str = "egress.nat";

pub(super) fn examine(subject: &Subject) -> Vec<Finding> {
    let config = subject.configuration.config();
    let wanted = config.and_then(|config| {
        let profile = config.profiles.iter().find(|profile| profile.egress.mode == Mode::Nat)?;
        Some(profile.name.clone())
    });
    let has_qemu = config.is_none_or(|config| config.vm.backend != Backend::Firecracker);
    let lacking = if has_qemu {
        wire::lacking()
    } else {
        Some(
            "Firecracker's machines get no network card\n  hint: use `backend = \"auto\"`, or another `mode`"
                .to_owned(),
        )
    };
    vec![judge(wanted.as_deref(), lacking)]
}

/// `wanted` is a profile that has the mode, if there is one.
fn judge(wanted: Option<&str>, lacking: Option<String>) -> Finding {
    match (wanted, lacking) {
        (_, None) => Finding::ok(ID, "VMs can have network cards (`egress` mode `nat`)"),
        (Some(profile), Some(why)) => {
            Finding::problem(ID, format!("profile `{profile}` has `egress` mode `nat`, and the service does not start"))
                .explained_by(&why)
        }
        (None, Some(why)) => {
            let why = why.split('\n').next().unwrap_or_default();
            Finding::skipped(ID, format!("no profile has `egress` mode `nat`, which would not work here: {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::sketch;
    use super::*;

    #[test]
    fn only_who_wants_cards_has_a_problem_without_them() {
        let why = || Some("`nft` is not installed\n  hint: install it".to_owned());
        let all = [judge(Some("lan"), None), judge(Some("lan"), why()), judge(None, why())];
        insta::assert_snapshot!(sketch(&all), @"
        ok egress.nat: VMs can have network cards (`egress` mode `nat`)
        problem egress.nat: profile `lan` has `egress` mode `nat`, and the service does not start
            `nft` is not installed
            -> install it
        skipped egress.nat: no profile has `egress` mode `nat`, which would not work here: `nft` is not installed
        ");
    }
}
