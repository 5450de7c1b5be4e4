//! Jobs that write what the host reads: the files by which steps speak to later ones.

use super::{Attack, under_attack};

/// Each step's file is too large, endless, not a file, or somebody else's.
const STEPS: [&str; 6] = [
    "truncate -s 1G \"$GITHUB_OUTPUT\"",
    "seq -f 'V%.0f=x' 70000 > \"$GITHUB_ENV\"",
    "yes /nowhere | head -c 1000000 > \"$GITHUB_PATH\"; ln -sf /etc/hostname \"$GITHUB_OUTPUT\"",
    "rm \"$GITHUB_STEP_SUMMARY\" \"$GITHUB_ENV\" \"$GITHUB_OUTPUT\"; mkfifo \"$GITHUB_STEP_SUMMARY\"; \
     ln -s /dev/zero \"$GITHUB_ENV\"; mkdir \"$GITHUB_OUTPUT\"",
    "head -c 1000000 /dev/zero | tr '\\0' '<' > \"$GITHUB_STEP_SUMMARY\"",
    "rm -rf \"$(dirname \"$GITHUB_ENV\")\"",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_steps_say_to_each_other_is_bounded_and_never_followed() {
    let steps: Vec<String> = STEPS.iter().map(|script| format!("set +e\n{script}")).collect();
    let last = "echo \"ran=on\"".to_owned();
    let steps: Vec<&str> = steps.iter().chain([&last]).map(String::as_str).collect();
    // One job for each: a step that fails ends its job.
    let names = ["huge", "many", "paths", "no-files", "summary", "nowhere"];
    let pairs: Vec<[&str; 2]> = steps[..6].iter().map(|step| [*step, steps[6]]).collect();
    let attacks: Vec<Attack<'_>> =
        std::iter::zip(names, &pairs).map(|(name, steps)| Attack { name, profile: "linux", steps }).collect();
    let Some(ends) = under_attack(&attacks).await else { return };
    let details: Vec<String> = std::iter::zip(names, &ends)
        .map(|(name, ended)| format!("{name}: {:?} {}", ended.job.verdict(), ended.job.detail.as_deref().unwrap()))
        .collect();
    insta::assert_snapshot!(details.join("\n"));
    assert!(ends[4].summary().len() <= 65_535);
}
