//! No line names a path of somebody's machine, and none is left unfinished.

use super::tree::{File, Tree};

/// This file, which must name what it looks for.
const SELF: &str = "xtask/src/tidy/text.rs";
/// Where a development machine keeps things. The project's own files are named relative to it.
const MACHINE_PATHS: &[&str] = &["/root/", "/work/", "/Users/", "/tmp/"];
const UNFINISHED: &[&str] = &["TODO", "FIXME", "XXX", "HACK"];

/// Returns a finding for every such line.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let own = |file: &&File| file.path != SELF && file.path != "Cargo.lock";
    tree.files.iter().filter(own).flat_map(check_file).collect()
}

fn check_file(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        let number = number + 1;
        for path in MACHINE_PATHS {
            if starts_a_path(line, path) {
                findings.push(format!("{}:{number}: names a machine's path, {path}", file.path));
            }
        }
        for word in UNFINISHED {
            if is_a_word(line, word) {
                findings.push(format!("{}:{number}: says {word}", file.path));
            }
        }
    }
    findings
}

/// Whether `path` begins there, rather than being the middle of another path or a URL.
fn starts_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-}/".contains(c))
    })
}

fn is_a_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let outside = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        outside(line[..at].chars().next_back()) && outside(line[at + word.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_path_is_found_and_a_relative_one_is_not() {
        assert!(starts_a_path("cd /root/x", "/root/"));
        assert!(starts_a_path("\"/tmp/x\"", "/tmp/"));
        assert!(!starts_a_path("https://host/work/x", "/work/"));
        assert!(!starts_a_path("docs/work/x", "/work/"));
    }

    #[test]
    fn an_unfinished_line_is_found() {
        assert!(is_a_word("// TODO: later", "TODO"));
        assert!(!is_a_word("const TODOS: u8 = 1;", "TODO"));
    }
}
