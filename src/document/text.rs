//! Names for people and texts in Markdown, out of texts that may be anything.

/// `text` on one line, cut to `most` characters.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let letters = text.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    if letters.clone().count() <= most { letters.collect() } else { letters.take(most - 1).chain(['…']).collect() }
}

/// Text of a stranger inside of ours: no tags or comments, which would hide what follows, and nobody is mentioned. Works in
/// code too, where escapes would show.
pub(crate) fn defused(text: &str) -> String {
    const INVISIBLE: char = '\u{200b}';
    text.chars().flat_map(|letter| [Some(letter), matches!(letter, '<' | '@').then_some(INVISIBLE)]).flatten().collect()
}

/// Text of a stranger in a cell of a Markdown table.
pub(crate) fn cell(text: &str) -> String {
    defused(text).replace('|', "\\|").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_by_characters() {
        assert_eq!(one_line(" a\nb ", 3), "a b");
        assert_eq!(one_line("äöüß", 4), "äöüß");
        assert_eq!(one_line("äöüßx", 4), "äöü…");
    }
}
