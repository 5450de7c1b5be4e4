//! Words of a text, as a shell reads them, without expanding anything.

/// The words of a text. Quotes and backslashes keep what they keep in a shell.
///
/// # Errors
/// A quote that does not end, in words.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut is_word) = (Vec::new(), String::new(), false);
    let mut letters = text.chars();
    let unended = |quote: char| format!("`{text}` has a quote `{quote}` that does not end");
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                is_word = true;
                loop {
                    match letters.next().ok_or_else(|| unended('\''))? {
                        '\'' => break,
                        letter => word.push(letter),
                    }
                }
            }
            '"' => {
                is_word = true;
                loop {
                    match letters.next().ok_or_else(|| unended('"'))? {
                        '"' => break,
                        '\\' => match letters.next().ok_or_else(|| unended('"'))? {
                            escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                            other => word.extend(['\\', other]),
                        },
                        letter => word.push(letter),
                    }
                }
            }
            '\\' => match letters.next() {
                // A line that goes on.
                Some('\n') => {}
                next => {
                    is_word = true;
                    word.extend(next);
                }
            },
            letter if letter.is_whitespace() => {
                if std::mem::take(&mut is_word) {
                    words.push(std::mem::take(&mut word));
                }
            }
            letter => {
                is_word = true;
                word.push(letter);
            }
        }
    }
    if is_word {
        words.push(word);
    }
    Ok(words)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_those_of_a_shell_without_its_expansions() {
        for (text, expected) in [
            ("", &[][..]),
            ("  a  b\tc\n", &["a", "b", "c"]),
            ("a\r\nb \\\n c", &["a", "b", "c"]),
            ("'a b' \"c d\"", &["a b", "c d"]),
            ("a'b'\"c\"d", &["abcd"]),
            ("'' \"\"", &["", ""]),
            (r#""a\"b\\c\d" e\ f"#, &["a\"b\\c\\d", "e f"]),
            ("$HOME $(x) `y` *", &["$HOME", "$(x)", "`y`", "*"]),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text}");
        }
        assert!(split("'a").is_err() && split("\"a\\").is_err());
    }

    proptest! {
        /// What is quoted comes back as it was.
        #[test]
        fn quoted_words_come_back(words in proptest::collection::vec("[ -~]{0,8}", 0..5)) {
            let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
            prop_assert_eq!(split(&quoted.join(" ")).unwrap(), words);
        }
    }
}
