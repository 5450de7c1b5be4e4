//! Tokens to a tree, by precedence. From weak to strong: `||`, `&&`, equality, order, `!`, index and dereference.

use super::functions::Function;
use super::lexer::{self, Symbol, Token, TokenKind};
use super::value::Value;
use super::{ErrorKind, ExpressionError, MAX_DEPTH, Scope};

/// A parsed expression. Its depth is at most [`MAX_DEPTH`], so that walking it may recurse.
#[derive(Debug, Clone)]
pub(super) enum Ast {
    Literal(Value),
    Context(String),
    Index {
        target: Box<Ast>,
        index: Box<Ast>,
    },
    /// `.*` and `[*]`: every value of a collection.
    Every(Box<Ast>),
    Not(Box<Ast>),
    Comparison {
        operator: Comparison,
        left: Box<Ast>,
        right: Box<Ast>,
    },
    /// Two or more, so that long chains are not deep.
    And(Vec<Ast>),
    Or(Vec<Ast>),
    Call {
        function: Function,
        arguments: Vec<Ast>,
        position: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Ast {
    pub(super) fn asks_for_status(&self) -> bool {
        self.has(&|part| matches!(part, Self::Call { function, .. } if function.is_status()))
    }

    pub(super) fn uses(&self, contexts: &[&str]) -> bool {
        self.has(&|part| matches!(part, Self::Context(name) if contexts.iter().any(|known| known.eq_ignore_ascii_case(name))))
    }

    pub(super) fn uses_member(&self, context: &str, member: &str) -> bool {
        let is_context = |target: &Self| matches!(target, Self::Context(name) if name.eq_ignore_ascii_case(context));
        let is_member =
            |index: &Self| matches!(index, Self::Literal(Value::String(name)) if name.eq_ignore_ascii_case(member));
        self.has(&|part| matches!(part, Self::Index { target, index } if is_context(target) && is_member(index)))
    }

    /// Whether a part of the tree is one of those that `is_it` knows.
    fn has(&self, is_it: &impl Fn(&Self) -> bool) -> bool {
        is_it(self)
            || match self {
                Self::Literal(_) | Self::Context(_) => false,
                Self::Index { target, index } => target.has(is_it) || index.has(is_it),
                Self::Every(inner) | Self::Not(inner) => inner.has(is_it),
                Self::Comparison { left, right, .. } => left.has(is_it) || right.has(is_it),
                Self::And(operands) | Self::Or(operands) => operands.iter().any(|operand| operand.has(is_it)),
                Self::Call { arguments, .. } => arguments.iter().any(|argument| argument.has(is_it)),
            }
    }
}

/// Parses a whole expression; nothing but white space is null.
pub(super) fn parse(source: &str, scope: Option<&Scope<'_>>) -> Result<Ast, ExpressionError> {
    let tokens = lexer::tokens(source)?;
    if tokens.is_empty() {
        return Ok(Ast::Literal(Value::Null));
    }
    let mut parser = Parser { tokens: &tokens, at: 0, groups: 0, scope };
    let parsed = parser.or()?;
    match parser.peek() {
        Some(token) => Err(unexpected(token)),
        None => Ok(parsed.ast),
    }
}

/// A tree and its depth.
struct Parsed {
    ast: Ast,
    depth: usize,
}

impl Parsed {
    fn leaf(ast: Ast) -> Self {
        Self { ast, depth: 1 }
    }

    /// A node above trees of which the deepest has `below` levels.
    fn above(below: usize, ast: Ast) -> Result<Self, ExpressionError> {
        if below >= MAX_DEPTH {
            return Err(too_deep());
        }
        Ok(Self { ast, depth: below + 1 })
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    /// Parentheses, brackets and calls that are open here.
    groups: usize,
    scope: Option<&'a Scope<'a>>,
}

type ParseResult = Result<Parsed, ExpressionError>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn take(&mut self) -> Result<&'a Token, ExpressionError> {
        let token = self.peek().ok_or_else(|| self.ended())?;
        self.at += 1;
        Ok(token)
    }

    fn take_symbol(&mut self, symbol: Symbol) -> bool {
        let found = self.peek().is_some_and(|token| token.kind == TokenKind::Symbol(symbol));
        self.at += usize::from(found);
        found
    }

    fn require(&mut self, symbol: Symbol) -> Result<(), ExpressionError> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.peek().map_or_else(|| self.ended(), unexpected)) }
    }

    fn ended(&self) -> ExpressionError {
        let last = self.tokens.last().expect("an empty expression is not parsed");
        ExpressionError::parsing(last.position, format!("the expression ends after `{}`", last.text))
    }

    /// Runs `inner` one group deeper. Groups cost stack, so that they are bounded too.
    fn grouped<T>(
        &mut self, inner: impl FnOnce(&mut Self) -> Result<T, ExpressionError>,
    ) -> Result<T, ExpressionError> {
        if self.groups >= MAX_DEPTH {
            return Err(too_deep());
        }
        self.groups += 1;
        let result = inner(self);
        self.groups -= 1;
        result
    }

    fn or(&mut self) -> ParseResult {
        self.chain(Symbol::Or, Self::and, Ast::Or)
    }

    fn and(&mut self) -> ParseResult {
        self.chain(Symbol::And, Self::equality, Ast::And)
    }

    fn chain(
        &mut self, symbol: Symbol, operand: fn(&mut Self) -> ParseResult, node: fn(Vec<Ast>) -> Ast,
    ) -> ParseResult {
        let first = operand(self)?;
        if self.peek().is_none_or(|token| token.kind != TokenKind::Symbol(symbol)) {
            return Ok(first);
        }
        let mut depth = first.depth;
        let mut operands = vec![first.ast];
        while self.take_symbol(symbol) {
            let next = operand(self)?;
            depth = depth.max(next.depth);
            operands.push(next.ast);
        }
        Parsed::above(depth, node(operands))
    }

    fn equality(&mut self) -> ParseResult {
        self.comparison(Self::order, |symbol| match symbol {
            Symbol::Equal => Some(Comparison::Equal),
            Symbol::NotEqual => Some(Comparison::NotEqual),
            _ => None,
        })
    }

    fn order(&mut self) -> ParseResult {
        self.comparison(Self::unary, |symbol| match symbol {
            Symbol::Less => Some(Comparison::Less),
            Symbol::LessOrEqual => Some(Comparison::LessOrEqual),
            Symbol::Greater => Some(Comparison::Greater),
            Symbol::GreaterOrEqual => Some(Comparison::GreaterOrEqual),
            _ => None,
        })
    }

    fn comparison(
        &mut self, operand: fn(&mut Self) -> ParseResult, operator_of: fn(Symbol) -> Option<Comparison>,
    ) -> ParseResult {
        let mut left = operand(self)?;
        loop {
            let operator = match self.peek().map(|token| &token.kind) {
                Some(TokenKind::Symbol(symbol)) => operator_of(*symbol),
                _ => None,
            };
            let Some(operator) = operator else { return Ok(left) };
            self.at += 1;
            let right = operand(self)?;
            let depth = left.depth.max(right.depth);
            let node = Ast::Comparison { operator, left: Box::new(left.ast), right: Box::new(right.ast) };
            left = Parsed::above(depth, node)?;
        }
    }

    fn unary(&mut self) -> ParseResult {
        let mut negations = 0;
        while self.take_symbol(Symbol::Not) {
            negations += 1;
        }
        let mut operand = self.postfix()?;
        for _ in 0..negations {
            operand = Parsed::above(operand.depth, Ast::Not(Box::new(operand.ast)))?;
        }
        Ok(operand)
    }

    /// A primary and what is taken out of it. Literals have no members, unless they stand in parentheses.
    fn postfix(&mut self) -> ParseResult {
        let is_group = self.peek().is_some_and(|token| token.kind == TokenKind::Symbol(Symbol::Open));
        let mut target = self.primary()?;
        if matches!(target.ast, Ast::Literal(_)) && !is_group {
            return Ok(target);
        }
        loop {
            if self.take_symbol(Symbol::Dot) {
                target = self.dereference(target)?;
            } else if self.take_symbol(Symbol::OpenIndex) {
                target = self.grouped(|parser| parser.index(target))?;
            } else {
                return Ok(target);
            }
        }
    }

    fn dereference(&mut self, target: Parsed) -> ParseResult {
        if self.take_symbol(Symbol::Star) {
            return Parsed::above(target.depth, Ast::Every(Box::new(target.ast)));
        }
        let token = self.take()?;
        if token.kind != TokenKind::Word {
            return Err(unexpected(token));
        }
        let index = Ast::Literal(Value::from(token.text.as_str()));
        Parsed::above(target.depth, Ast::Index { target: Box::new(target.ast), index: Box::new(index) })
    }

    fn index(&mut self, target: Parsed) -> ParseResult {
        if self.take_symbol(Symbol::Star) {
            self.require(Symbol::CloseIndex)?;
            return Parsed::above(target.depth, Ast::Every(Box::new(target.ast)));
        }
        let index = self.or()?;
        self.require(Symbol::CloseIndex)?;
        let depth = target.depth.max(index.depth);
        Parsed::above(depth, Ast::Index { target: Box::new(target.ast), index: Box::new(index.ast) })
    }

    fn primary(&mut self) -> ParseResult {
        let token = self.take()?;
        match &token.kind {
            TokenKind::Number(value) => Ok(Parsed::leaf(Ast::Literal(Value::Number(*value)))),
            TokenKind::String(value) => Ok(Parsed::leaf(Ast::Literal(Value::from(value.as_str())))),
            TokenKind::Symbol(Symbol::Open) => self.grouped(|parser| {
                let inner = parser.or()?;
                parser.require(Symbol::Close)?;
                Ok(inner)
            }),
            TokenKind::Symbol(_) => Err(unexpected(token)),
            TokenKind::Word => self.word(token),
        }
    }

    fn word(&mut self, token: &Token) -> ParseResult {
        let literal = match token.text.as_str() {
            "null" => Some(Value::Null),
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            "NaN" => Some(Value::Number(f64::NAN)),
            "Infinity" => Some(Value::Number(f64::INFINITY)),
            _ => None,
        };
        if let Some(value) = literal {
            return Ok(Parsed::leaf(Ast::Literal(value)));
        }
        if self.take_symbol(Symbol::Open) {
            return self.grouped(|parser| parser.call(token));
        }
        self.check_context(token)?;
        Ok(Parsed::leaf(Ast::Context(token.text.clone())))
    }

    fn check_context(&self, token: &Token) -> Result<(), ExpressionError> {
        let Some(scope) = self.scope else { return Ok(()) };
        let is_in = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(&token.text));
        if is_in(scope.contexts) {
            return Ok(());
        }
        let hint = match scope.contexts {
            [] => "no context exists here".to_owned(),
            names => format!("contexts that exist here: {}", names.join(", ")),
        };
        Err(ExpressionError::parsing(token.position, format!("there is no context `{}` here", token.text))
            .with_hint(hint))
    }

    /// Arguments up to the closing parenthesis; the opening one is taken.
    fn call(&mut self, name: &Token) -> ParseResult {
        let function = Function::find(name, self.scope)?;
        let mut arguments = Vec::new();
        let mut depth = 0;
        if !self.take_symbol(Symbol::Close) {
            loop {
                let argument = self.or()?;
                depth = depth.max(argument.depth);
                arguments.push(argument.ast);
                if !self.take_symbol(Symbol::Comma) {
                    break;
                }
            }
            self.require(Symbol::Close)?;
        }
        function.check_argument_count(arguments.len(), name.position)?;
        Parsed::above(depth, Ast::Call { function, arguments, position: name.position })
    }
}

fn unexpected(token: &Token) -> ExpressionError {
    ExpressionError::parsing(token.position, format!("`{}` does not fit here", token.text))
}

fn too_deep() -> ExpressionError {
    ExpressionError::new(ErrorKind::Parsing, None, format!("the expression is nested deeper than {MAX_DEPTH} levels"))
}
