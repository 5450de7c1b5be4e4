//! Jobs that print more than anybody wants to read.

use super::{Attack, under_attack};

/// 8 MiB each: without a line end, of nothing but NUL, of invalid bytes and escape sequences, of empty lines.
const FLOOD: &str = r#"
echo "first=line"
head -c 8M /dev/zero | tr '\0' x
head -c 8M /dev/zero
yes "$(printf '\033]0;\377\233\033[2J::add-mask::x\r')" | head -c 8M
yes '' | head -c 200K
echo
echo "last=line"
"#;

/// Both ends of a line that is longer than the log.
const TWO_ENDS: &str = r#"
printf 'begin'; head -c 3M /dev/zero | tr '\0' -; echo 'end'
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_costs_neither_memory_nor_disk() {
    let attacks = [Attack { name: "flood", profile: "terse", steps: &[FLOOD, TWO_ENDS] }];
    let Some(ends) = under_attack(&attacks).await else { return };
    let ended = &ends[0];
    assert_eq!(ended.job.verdict(), ("success", ""), "{:?}", ended.job.detail);
    assert_eq!(ended.said("first"), "line");
    assert!(ended.log.contains("bytes were cut here"));
    assert!(ended.log.contains("-end\n"));
    // Rendering makes three bytes of an invalid one.
    assert!(ended.log.len() < 4 << 20, "{} bytes", ended.log.len());
    assert!(ended.log.chars().all(|letter| !letter.is_control() || letter == '\n' || letter == '\t'));
    let text = ended.check.as_ref().unwrap().output["text"].as_str().unwrap();
    assert!(text.len() <= 65_535 && text.contains("-end\n"));
}
