//! Names for people, out of texts that may be anything.

/// `text` on one line, cut to `most` characters.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let letters = text.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    if letters.clone().count() <= most { letters.collect() } else { letters.take(most - 1).chain(['…']).collect() }
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
