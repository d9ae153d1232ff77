//! Every link between the documents resolves, headings included, and a decision record fits a page.

use super::tree::{File, Tree};

const ADR_LINES_MAX: usize = 60;

/// Returns a finding for every broken link and every record that is longer than a page.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        if file.path.starts_with("docs/adr/") && file.text.lines().count() > ADR_LINES_MAX {
            findings.push(format!("{}: more than a page ({ADR_LINES_MAX} lines)", file.path));
        }
        for (line, target) in links(&file.text) {
            if let Some(why) = broken(tree, file, &target) {
                findings.push(format!("{}:{line}: link to `{target}`: {why}", file.path));
            }
        }
    }
    findings
}

/// The targets of inline links outside code, each with its line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Between backticks is code: the even pieces are prose.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
        for (at, _) in prose.match_indices("](") {
            let rest = &prose[at + 2..];
            if let Some(end) = rest.find(')') {
                found.push((number + 1, rest[..end].to_owned()));
            }
        }
    }
    found
}

fn broken(tree: &Tree, from: &File, target: &str) -> Option<&'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None; // The world outside is not checked.
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let resolved = if path.is_empty() { from.path.clone() } else { resolve(&from.path, path) };
    let Some(file) = tree.file(&resolved) else {
        let directory = format!("{}/", resolved.trim_end_matches('/'));
        let is_directory = tree.files.iter().any(|file| file.path.starts_with(&directory));
        return (!is_directory).then_some("there is no such file");
    };
    let known = anchor.is_empty() || headings(&file.text).any(|heading| heading == anchor);
    (!known).then_some("there is no such heading")
}

/// Resolves a relative path against the file that names it.
fn resolve(from: &str, path: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The anchors that the headings of a Markdown text get.
fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let file =
            |(path, text): &(&str, &str)| File { path: (*path).into(), text: (*text).into() };
        Tree { files: files.iter().map(file).collect(), metadata: serde_json::Value::Null }
    }

    #[test]
    fn a_link_to_nowhere_is_found() {
        let tree = tree(&[
            ("docs/a.md", "[x](b.md) [y](../README.md#the-title) [z](adr/) `[code](no.md)`"),
            ("docs/b.md", "[gone](gone.md)\n[no heading](a.md#nowhere)"),
            ("docs/adr/1.md", ""),
            ("README.md", "# The title\n[web](https://example.org/x)"),
        ]);
        let findings = check(&tree);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].starts_with("docs/b.md:1:"));
        assert!(findings[1].starts_with("docs/b.md:2:"));
    }

    #[test]
    fn a_long_decision_record_is_found() {
        let long = "\n".repeat(ADR_LINES_MAX + 1);
        assert_eq!(check(&tree(&[("docs/adr/0001-x.md", &long)])).len(), 1);
        assert_eq!(check(&tree(&[("docs/other.md", &long)])).len(), 0);
    }
}
