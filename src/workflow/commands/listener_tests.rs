#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::super::{Heard, Masks, Source};
use super::*;
use crate::workflow::commands::Said;

/// Hears texts, each arriving by itself; files of matchers are answered with `file`. Gives the log, and what was said.
fn heard(listener: Listener, hearing: &mut Hearing, chunks: &[&[u8]], file: Result<&str, &str>) -> (String, Said) {
    let mut listener = listener;
    let mut log = Vec::new();
    let mut drain = |listener: &mut Listener, is_over| {
        while let Some(Heard { text, asked }) = listener.next(Source::Stdout, is_over, hearing) {
            log.extend(text);
            if let Some(asked) = asked {
                let content = file.map(|file| file.as_bytes().to_vec()).map_err(str::to_owned);
                log.extend(listener.answer(asked, content, hearing));
            }
        }
    };
    for chunk in chunks {
        listener.push(Source::Stdout, chunk);
        drain(&mut listener, false);
    }
    drain(&mut listener, true);
    (String::from_utf8_lossy(&log).into_owned(), listener.finish())
}

fn say(text: &str) -> (String, Said) {
    heard(Listener::new("/w", false, false), &mut Hearing::default(), &[text.as_bytes()], Err("none"))
}

#[test]
fn annotations_are_told_in_the_log_and_beside_the_code() {
    let (log, said) =
        say("a\n::error file=/w/a.rs,line=3,endLine=4,title=T::one%0Atwo\r\n::notice::\n##[warning]old\nlast");
    insta::assert_snapshot!(log, @r"
    a
    ##[error]one
    two
    ##[notice]
    ##[warning]old
    last
    ");
    let told: Vec<_> =
        said.annotations.iter().map(|told| (told.level, told.file.as_deref(), told.line, told.end_line)).collect();
    assert_eq!(told, [(Level::Error, Some("a.rs"), Some(3), Some(4)), (Level::Warning, None, None, None)]);
    assert_eq!(said.annotations[0].title.as_deref(), Some("T"));
}

#[test]
fn a_step_has_ten_annotations_of_each_level() {
    let (log, said) = say(&"::error::e\n::warning::w\n".repeat(30));
    assert_eq!((log.lines().count(), said.annotations.len()), (60, 20));
}

#[test]
fn groups_and_debug_are_shown_as_they_should() {
    let (log, _) = say("::group::Build it\nx\n::endgroup::\n::debug::hidden\n::unknown::x\n");
    insta::assert_snapshot!(log, @r"
    ##[group]Build it
    x
    ##[endgroup]
    ::unknown::x
    ");
    let listener = Listener::new("/w", true, false);
    let (log, _) = heard(listener, &mut Hearing::default(), &[b"::debug::shown\n::add-mask::shown\n"], Err(""));
    insta::assert_snapshot!(log, @r"
    ##[debug]shown
    ::add-mask::***
    ");
}

#[test]
fn commands_can_be_stopped_and_shown() {
    let text = "::stop-commands::my-token\n::error::not one\n::stop-commands::other\n::MY-TOKEN::\n::echo::on\n::set-output name=a::1\n::echo::off\n::echo::maybe\n";
    let (log, said) = say(text);
    insta::assert_snapshot!(log, @r"
    ::stop-commands::my-token
    ::error::not one
    ::stop-commands::other
    ::MY-TOKEN::
    ::set-output name=a::1
    ##[warning]`set-output` is deprecated; write to the file that GITHUB_OUTPUT names
    ::echo::off
    ##[error]the command `echo` could not be processed: its value is neither `on` nor `off`
    ");
    assert_eq!(said.outputs, [("a".to_owned(), "1".to_owned())]);
    for token in ["", "error", "pause-logging", "Add-Mask"] {
        let (_, said) = say(&format!("::stop-commands::{token}\n::error::heard\n"));
        assert_eq!((said.failures.len(), said.annotations.len()), (1, 1), "{token}");
    }
}

#[test]
fn what_changes_the_environment_is_refused_unless_it_is_allowed() {
    let text = "::set-env name=A::1\n::add-path::/bin\n::save-state name=s::x\n::set-output::y\n";
    let (log, said) = say(text);
    assert_eq!((said.env.len(), said.path.len(), said.failures.len()), (0, 0, 3), "{log}");
    assert_eq!(said.state, [("s".to_owned(), "x".to_owned())]);
    let listener = Listener::new("/w", false, true);
    let text = format!("{text}::set-env name=GITHUB_SHA::1\n");
    let (_, said) = heard(listener, &mut Hearing::default(), &[text.as_bytes()], Err(""));
    assert_eq!((said.env, said.path), (vec![("A".to_owned(), "1".to_owned())], vec!["/bin".to_owned()]));
    assert_eq!(said.failures.len(), 2, "an output without a name, and a variable that nobody sets");
}

#[test]
fn masks_hold_from_then_on() {
    let text = "secret1 before\n::add-mask::secret1\nsecret1\n::error title=x secret1 y::has secret1\n::add-mask:: \n::group::secret1\n";
    let (log, said) = say(text);
    insta::assert_snapshot!(log, @r"
    secret1 before
    ***
    ##[error]has ***
    ##[warning]`add-mask` names nothing to mask
    ##[group]***
    ");
    assert_eq!(
        (said.annotations[0].message.as_str(), said.annotations[0].title.as_deref()),
        ("has ***", Some("x *** y"))
    );
}

#[test]
fn problem_matchers_come_from_files() {
    let file = r#"{"problemMatcher": [{"owner": "x", "pattern": [{"regexp": "^(\\w+):(\\d+): (.*)$", "file": 1, "line": 2, "message": 3}]}]}"#;
    let text = b"a:1: before\n::add-matcher::m.json\na:2: after\nplain\n::remove-matcher owner=X::\na:3: gone\n::remove-matcher::\n";
    let (log, said) = heard(Listener::new("/w", false, false), &mut Hearing::default(), &[text], Ok(file));
    insta::assert_snapshot!(log, @r"
    a:1: before
    ##[error]a:2: after
    plain
    a:3: gone
    ##[warning]`remove-matcher` names either an owner or a file
    ");
    assert_eq!(said.annotations[0].message, "after");
    let (log, said) =
        heard(Listener::new("/w", false, false), &mut Hearing::default(), &[text], Err("it is not there"));
    assert_eq!(said.failures.len(), 1);
    assert!(log.contains("the problem matchers of `/w/m.json`: it is not there"), "{log}");
}

#[test]
fn a_line_that_is_not_over_is_shown_unless_something_hangs_on_its_rest() {
    let mut listener = Listener::new("/w", false, false);
    let mut hearing = Hearing::default();
    let mut shown = |text: &str, hearing: &mut Hearing| {
        listener.push(Source::Stdout, text.as_bytes());
        let heard = listener.next(Source::Stdout, false, hearing).unwrap_or_default();
        String::from_utf8(heard.text).unwrap()
    };
    assert_eq!(shown("Password: ", &mut hearing), "Password: ");
    assert_eq!(shown("::error::x\n", &mut hearing), "::error::x\n");
    assert_eq!(shown("  :", &mut hearing), "");
    assert_eq!(shown(":group::a", &mut hearing), "");
    assert_eq!(shown("\n", &mut hearing), "##[group]a\n");
    hearing.masks.add("secret").unwrap();
    assert_eq!(shown("sec", &mut hearing), "");
    assert_eq!(shown("ret\n", &mut hearing), "***\n");
}

#[test]
fn a_line_without_end_is_shown_in_pieces_without_what_is_masked() {
    let mut hearing = Hearing::default();
    hearing.masks.add("0123456789").unwrap();
    let text = "x0123456789".repeat(300_000);
    let chunks: Vec<&[u8]> = text.as_bytes().chunks(32_000).collect();
    let (log, _) = heard(Listener::new("/w", false, false), &mut hearing, &chunks, Err(""));
    assert_eq!(log, "x***".repeat(300_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_same_is_heard_however_it_is_cut(
        lines in proptest::collection::vec(prop_oneof![
            "[a-c: #]{0,6}", Just("::add-mask::abc".to_owned()), Just("::error::abc".to_owned()), Just("::stop-commands::t".to_owned()),
            Just("::t::".to_owned()), Just("##[group]x\r".to_owned())], 0..12),
        cuts in proptest::collection::vec(1usize..9, 1..40)) {
        let text = lines.join("\n");
        let whole = say(&text);
        let (mut chunks, mut rest, mut cuts) = (Vec::new(), text.as_bytes(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (chunk, left) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            chunks.push(chunk);
            rest = left;
        }
        let cut = heard(Listener::new("/w", false, false), &mut Hearing::default(), &chunks, Err("none"));
        prop_assert_eq!(&whole, &cut);
        let mut masks = Masks::default();
        masks.add("abc").unwrap();
        let after = whole.0.split_once("##[error]").map(|(_, after)| after);
        prop_assert!(after.is_none_or(|after| !lines.first().is_some_and(|first| first == "::add-mask::abc") || !masks.has_some_in(after)));
    }
}
