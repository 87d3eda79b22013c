//! llama.cpp's grammars (GBNF), written as llguidance's Lark.
//!
//! In: `root ::= "a" [0-9]+ item*` and further rules. Out: the same rules as Lark. A rule that does
//! not come back to itself becomes a terminal, which is followed exactly; what rules that do are
//! made of is read greedily, longest first, as Lark has it: every answer fits the grammar, but of
//! the answers that fit, those that need a shorter reading are not found.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Parentheses in each other at most.
const MAX_DEPTH: usize = 100;

/// Whether a text is GBNF and not Lark.
pub fn is_gbnf(text: &str) -> bool {
    text.contains("::=")
}

/// Translates a grammar.
///
/// # Errors
/// When it is not one: a sentence with the line.
pub fn to_lark(text: &str) -> Result<String, String> {
    let tokens = tokens(text)?;
    let rules = rules(&tokens)?;
    if !rules.contains_key("root") {
        return Err("it has no rule `root`, where answers begin".into());
    }
    let terminals = terminals(&rules)?;
    let index = |name: &str| rules.keys().position(|known| known == name).unwrap_or_default();
    let lark_name = |name: &str| match terminals.contains(name) {
        true => format!("T{}", index(name)),
        false => format!("r{}", index(name)),
    };
    let mut lark = format!("start: {}\n", lark_name("root"));
    for (name, body) in &rules {
        lark += &format!("{}:", lark_name(name));
        for part in body {
            lark.push(' ');
            match part {
                Part::Text(text) => lark += &Value::from(text.as_str()).to_string(),
                Part::Class(class) => lark += &format!("/{class}/"),
                Part::Rule(name, _) => lark += &lark_name(name),
                Part::Mark(mark) => {
                    if !"|(".contains(mark.as_str()) {
                        // What repeats stands right behind what it repeats.
                        lark.truncate(lark.len() - 1);
                    }
                    lark += mark;
                }
            }
        }
        lark.push('\n');
    }
    Ok(lark)
}

/// A part of a rule's body.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    /// A class of characters, as a regular expression.
    Class(String),
    /// A rule, and the line that names it.
    Rule(String, usize),
    /// `|`, a parenthesis, or how often what stands before it comes.
    Mark(String),
}

/// A token of a grammar, and its line.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Part(Part),
    Is,
}

fn tokens(text: &str) -> Result<Vec<(Token, usize)>, String> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(c) = rest.chars().next() {
        let (token, n) = match c {
            '\n' => {
                line += 1;
                (None, 1)
            }
            c if c.is_whitespace() => (None, c.len_utf8()),
            '#' => (None, rest.find('\n').unwrap_or(rest.len())),
            ':' if rest.starts_with("::=") => (Some(Token::Is), 3),
            '|' | '(' | ')' | '*' | '+' | '?' => (Some(Token::Part(Part::Mark(c.into()))), 1),
            '.' => {
                let any = Part::Class("[\\x{0}-\\x{10FFFF}]".into());
                (Some(Token::Part(any)), 1)
            }
            '{' => {
                let n = rest.find('}').ok_or(format!("line {line}: a {{ is never closed"))? + 1;
                let digits = |c: char| c.is_ascii_digit() || c == ',';
                if !rest[1..n - 1].chars().all(digits) {
                    return Err(format!("line {line}: {} is no number of times", &rest[..n]));
                }
                (Some(Token::Part(Part::Mark(rest[..n].into()))), n)
            }
            '"' => {
                let (characters, n) = quoted(&rest[1..], '"', line)?;
                let text = characters.into_iter().map(|(c, _)| c).collect();
                (Some(Token::Part(Part::Text(text))), n + 1)
            }
            '[' => {
                let (characters, n) = quoted(&rest[1..], ']', line)?;
                (Some(Token::Part(Part::Class(class(&characters)))), n + 1)
            }
            c if is_name(c) => {
                let n = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                (Some(Token::Part(Part::Rule(rest[..n].into(), line))), n)
            }
            c => return Err(format!("line {line}: `{c}` begins nothing that GBNF has")),
        };
        found.extend(token.map(|token| (token, line)));
        rest = &rest[n..];
    }
    Ok(found)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// The characters up to an end, each with whether it was escaped, and the bytes that they take with
/// the end.
fn quoted(text: &str, end: char, line: usize) -> Result<(Vec<(char, bool)>, usize), String> {
    let mut characters = Vec::new();
    let mut rest = text.char_indices();
    while let Some((at, c)) = rest.next() {
        if c == end {
            return Ok((characters, at + end.len_utf8()));
        }
        if c != '\\' {
            characters.push((c, false));
            continue;
        }
        let escaped = rest.next().map(|(_, c)| c);
        let n_digits = match escaped {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => 0,
        };
        let digits: String = rest.by_ref().take(n_digits).map(|(_, c)| c).collect();
        let character = match escaped {
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some(c @ ('\\' | '"' | '[' | ']' | '-' | '^')) => Some(c),
            Some('x' | 'u' | 'U') => u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32),
            _ => None,
        };
        let wrong = || format!("line {line}: a \\ stands before what is no escape");
        characters.push((character.ok_or_else(wrong)?, true));
    }
    Err(format!("line {line}: a text or class is not closed; {end} is missing"))
}

/// A class as a regular expression.
fn class(characters: &[(char, bool)]) -> String {
    let code = |c: char| format!("\\x{{{:X}}}", u32::from(c));
    let mut regex = String::from("[");
    let is_negated = characters.first() == Some(&('^', false));
    let mut rest = &characters[usize::from(is_negated)..];
    if is_negated {
        regex.push('^');
    }
    while let [(c, _), after @ ..] = rest {
        regex += &code(*c);
        rest = match after {
            [('-', false), (to, _), after @ ..] => {
                regex.push('-');
                regex += &code(*to);
                after
            }
            after => after,
        };
    }
    regex.push(']');
    regex
}

type Rules = BTreeMap<String, Vec<Part>>;

/// The rules by name: each goes on to where the next one's name is.
fn rules(tokens: &[(Token, usize)]) -> Result<Rules, String> {
    let mut rules = Rules::new();
    let mut current: Option<String> = None;
    let mut depth = 0;
    for (at, (token, line)) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1).map(|(token, _)| token);
        match (token, &current) {
            (Token::Part(Part::Rule(name, _)), _) if next == Some(&Token::Is) => {
                if depth != 0 {
                    return Err(format!("line {line}: a ( of the rule before is not closed"));
                }
                if rules.insert(name.clone(), Vec::new()).is_some() {
                    return Err(format!("line {line}: there is a rule `{name}` already"));
                }
                current = Some(name.clone());
            }
            (Token::Is, _) if at > 0 && matches!(tokens[at - 1].0, Token::Part(Part::Rule(..))) => {
            }
            (Token::Part(part), Some(name)) => {
                depth += usize::from(*part == Part::Mark("(".into()));
                let is_close = *part == Part::Mark(")".into());
                let closed = depth.checked_sub(usize::from(is_close));
                depth = closed.ok_or(format!("line {line}: a ) closes nothing"))?;
                if depth > MAX_DEPTH {
                    return Err(format!("line {line}: more than {MAX_DEPTH} ( are open"));
                }
                rules.entry(name.clone()).or_default().push(part.clone());
            }
            _ => return Err(format!("line {line}: a rule begins with its name and ::=")),
        }
    }
    if depth != 0 {
        return Err("a ( of the last rule is not closed".into());
    }
    Ok(rules)
}

/// The rules that do not come back to themselves, by whatever way.
fn terminals(rules: &Rules) -> Result<BTreeSet<String>, String> {
    let mut terminals = BTreeSet::new();
    for part in rules.values().flatten() {
        if let Part::Rule(name, line) = part
            && !rules.contains_key(name)
        {
            return Err(format!("line {line}: there is no rule `{name}`"));
        }
    }
    loop {
        let before = terminals.len();
        for (name, body) in rules {
            let is_terminal = |part: &Part| match part {
                Part::Rule(name, _) => terminals.contains(name),
                _ => true,
            };
            if !terminals.contains(name) && body.iter().all(is_terminal) {
                terminals.insert(name.clone());
            }
        }
        if terminals.len() == before {
            return Ok(terminals);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_become_lark() {
        let gbnf = r#"
            # lists of numbers
            root  ::= "[" list? "]"
            list  ::= (number | root) ("," list){0,3}
            number ::= "-"? [0-9]+ ("." [^\x00-/:-\U0010FFFF"\]])*
              | "a\n\"" .
        "#;
        let lark = to_lark(gbnf).unwrap();
        let number = [
            r#"T1: "-"? /[\x{30}-\x{39}]/+ "#,
            r#"( "." /[^\x{0}-\x{2F}\x{3A}-\x{10FFFF}\x{22}\x{5D}]/)* "#,
            r#"| "a\n\"" /[\x{0}-\x{10FFFF}]/"#,
        ];
        let number = number.concat();
        let expected = [
            "start: r2",
            r#"r0: ( T1 | r2) ( "," r0){0,3}"#,
            number.as_str(),
            "r2: \"[\" r0? \"]\"\n",
        ];
        assert_eq!(lark, expected.join("\n"));
    }

    #[test]
    fn what_is_no_gbnf_is_said_with_its_line() {
        for (text, part) in [
            ("a ::= \"x\"", "no rule `root`"),
            ("root ::= \"x", "line 1"),
            ("root ::= \"x\"\n  [a", "line 2: a text or class is not closed"),
            ("root ::= a", "line 1: there is no rule `a`"),
            ("root ::= (\"x\"", "not closed"),
            ("root ::= \"x\")", "line 1: a ) closes nothing"),
            ("root ::= \"x\"\nroot ::= \"y\"", "line 2: there is a rule `root`"),
            ("root ::= \"\\q\"", "no escape"),
            ("root ::= \"x\"{a}", "no number"),
            ("::= x", "line 1"),
            ("root ::= $", "`$`"),
        ] {
            let error = to_lark(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        let deep = format!("root ::= {}", "(".repeat(101));
        assert!(to_lark(&deep).unwrap_err().contains("more than 100"));
    }
}
