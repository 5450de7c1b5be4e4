//! Text to tokens. Positions count characters from 1, as the forge's own messages do.

use super::{ErrorKind, ExpressionError, number};

/// One token; `text` is what stands in the expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) text: String,
    pub(super) position: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    Number(f64),
    String(String),
    /// A context, function, property or keyword: the parser knows which.
    Word,
    Symbol(Symbol),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symbol {
    Open,
    Close,
    OpenIndex,
    CloseIndex,
    Comma,
    Dot,
    Star,
    Not,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
}

/// All tokens of an expression.
pub(super) fn tokens(expression: &str) -> Result<Vec<Token>, ExpressionError> {
    let letters: Vec<char> = expression.chars().collect();
    let mut lexer = Lexer { letters: &letters, at: 0, tokens: Vec::new() };
    while lexer.next_token()? {}
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    letters: &'a [char],
    at: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.letters.get(self.at + ahead).copied()
    }

    fn next_token(&mut self) -> Result<bool, ExpressionError> {
        while self.peek(0).is_some_and(char::is_whitespace) {
            self.at += 1;
        }
        let Some(letter) = self.peek(0) else { return Ok(false) };
        let (kind, length) = if letter == '\'' {
            self.string()?
        } else if let Some((symbol, length)) = self.symbol(letter) {
            (TokenKind::Symbol(symbol), length)
        } else {
            self.word_or_number(letter)?
        };
        let text = self.letters[self.at..self.at + length].iter().collect();
        self.tokens.push(Token { kind, text, position: self.at + 1 });
        self.at += length;
        Ok(true)
    }

    /// The text between quotes; two quotes stand for one.
    fn string(&self) -> Result<(TokenKind, usize), ExpressionError> {
        let mut text = String::new();
        let mut length = 1;
        loop {
            match (self.peek(length), self.peek(length + 1)) {
                (Some('\''), Some('\'')) => {
                    text.push('\'');
                    length += 2;
                }
                (Some('\''), _) => return Ok((TokenKind::String(text), length + 1)),
                (Some(letter), _) => {
                    text.push(letter);
                    length += 1;
                }
                (None, _) => {
                    let message = "the string that starts here has no closing `'`".to_owned();
                    return Err(ExpressionError::new(ErrorKind::Lexing, Some(self.at + 1), message));
                }
            }
        }
    }

    fn symbol(&self, letter: char) -> Option<(Symbol, usize)> {
        let pair = |second, double, single| if self.peek(1) == Some(second) { (double, 2) } else { (single, 1) };
        Some(match letter {
            '(' => (Symbol::Open, 1),
            ')' => (Symbol::Close, 1),
            '[' => (Symbol::OpenIndex, 1),
            ']' => (Symbol::CloseIndex, 1),
            ',' => (Symbol::Comma, 1),
            '*' => (Symbol::Star, 1),
            '!' => pair('=', Symbol::NotEqual, Symbol::Not),
            '<' => pair('=', Symbol::LessOrEqual, Symbol::Less),
            '>' => pair('=', Symbol::GreaterOrEqual, Symbol::Greater),
            '=' if self.peek(1) == Some('=') => (Symbol::Equal, 2),
            '&' if self.peek(1) == Some('&') => (Symbol::And, 2),
            '|' if self.peek(1) == Some('|') => (Symbol::Or, 2),
            '.' if self.follows_a_value() => (Symbol::Dot, 1),
            _ => return None,
        })
    }

    /// After what can have members a point is a dereference; elsewhere it starts a number.
    fn follows_a_value(&self) -> bool {
        let Some((last, before)) = self.tokens.split_last() else { return false };
        match last.kind {
            TokenKind::Word => {
                let is_member = before.last().is_some_and(|token| token.kind == TokenKind::Symbol(Symbol::Dot));
                is_member || !is_keyword(&last.text)
            }
            TokenKind::Symbol(symbol) => matches!(symbol, Symbol::Close | Symbol::CloseIndex | Symbol::Star),
            TokenKind::Number(_) | TokenKind::String(_) => false,
        }
    }

    fn word_or_number(&self, first: char) -> Result<(TokenKind, usize), ExpressionError> {
        let is_numeric = first.is_ascii_digit() || matches!(first, '+' | '-' | '.');
        let mut length = 1;
        while self.peek(length).is_some_and(|letter| !ends_token(letter) && (is_numeric || letter != '.')) {
            length += 1;
        }
        let text: String = self.letters[self.at..self.at + length].iter().collect();
        let kind = if is_numeric {
            Some(number::parse(&text)).filter(|value| !value.is_nan()).map(TokenKind::Number)
        } else {
            is_word(&text).then_some(TokenKind::Word)
        };
        kind.map(|kind| (kind, length)).ok_or_else(|| {
            ExpressionError::new(ErrorKind::Lexing, Some(self.at + 1), format!("`{text}` is not understood"))
        })
    }
}

fn ends_token(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '(' | ')' | '[' | ']' | ',' | '!' | '<' | '>' | '=' | '&' | '|')
}

/// Whether a word is a value by itself, so that it has no members.
fn is_keyword(text: &str) -> bool {
    matches!(text, "null" | "true" | "false" | "NaN" | "Infinity")
}

/// Whether `text` can be the name of a context, function or property.
pub(super) fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-'))
}
