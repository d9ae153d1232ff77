//! What the house style says about the tree, checked.
//!
//! Invariant: every rule here can fail, and its own unit tests show that it does. A finding is one line that
//! names the place and the rule.

mod docs;
mod generated;
mod manifests;
mod purity;
mod sizes;
mod text;
mod tree;
mod words;

use tree::Tree;
pub(crate) use tree::root;

/// Files that may be longer, or hold a longer function, than the rule. It only shrinks: an entry that is no
/// longer needed is a finding too.
const EXCEPTIONS: &[&str] = &[];

/// Runs every check on the workspace and returns what they find.
pub(crate) fn check() -> Vec<String> {
    let tree = Tree::read();
    let mut findings = Vec::new();
    findings.extend(purity::check(&tree));
    findings.extend(manifests::check(&tree));
    findings.extend(sizes::check(&tree, EXCEPTIONS));
    findings.extend(text::check(&tree));
    findings.extend(docs::check(&tree));
    findings.extend(words::check(&tree));
    findings.extend(generated::check(&tree));
    findings
}

/// The crates that know nothing of the world outside.
const PURE: &[&str] = &["units", "book", "ledger", "engine", "journal"];

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        let findings = super::check();
        assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
    }
}
