//! The glossary's forbidden words name nothing in the code.
//!
//! The words between backticks in the "not" column of `docs/GLOSSARY.md` are the list; those without are advice.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};

use super::tree::{File, Tree};

const GLOSSARY: &str = "docs/GLOSSARY.md";

/// Returns a finding for every identifier that the glossary forbids, and for a glossary without such words.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let glossary = tree.file(GLOSSARY).map_or("", |file| file.text.as_str());
    let forbidden = forbidden(glossary);
    if forbidden.is_empty() {
        return vec![format!("{GLOSSARY}: has no `not` column with words in backticks")];
    }
    tree.rust().flat_map(|file| check_file(file, &forbidden)).collect()
}

/// The backticked words of the last column of every table whose last heading is "not".
fn forbidden(glossary: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let mut in_table = false;
    for line in glossary.lines() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if !line.starts_with('|') {
            in_table = false;
        } else if cells.last() == Some(&"not") {
            in_table = true;
        } else if in_table {
            let last = cells.last().copied().unwrap_or_default();
            words.extend(last.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    words
}

fn check_file(file: &File, forbidden: &BTreeSet<String>) -> Vec<String> {
    let Ok(tokens) = file.text.parse::<TokenStream>() else {
        return vec![format!("{}: is not Rust", file.path)];
    };
    let mut findings = Vec::new();
    visit(tokens, &mut |word, line| {
        if forbidden.contains(word) {
            findings.push(format!("{}:{line}: `{word}` is not our word: {GLOSSARY}", file.path));
        }
    });
    findings
}

fn visit(tokens: TokenStream, found: &mut impl FnMut(&str, usize)) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => found(&ident.to_string(), ident.span().start().line),
            TokenTree::Group(group) => visit(group.stream(), found),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_word_is_found_as_an_identifier_only() {
        let glossary =
            "| use | not |\n| --- | --- |\n| side | `is_buy`, deal |\n\n| x | y |\n| a | `b` |";
        let words = forbidden(glossary);
        assert_eq!(words, BTreeSet::from(["is_buy".to_owned()]));

        let text = "/// is_buy\nfn f(is_buy: bool, b: &str) { g(\"is_buy\") }".to_owned();
        let findings = check_file(&File { path: "x.rs".into(), text }, &words);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].starts_with("x.rs:2:"));
    }
}
