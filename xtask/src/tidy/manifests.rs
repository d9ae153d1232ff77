//! Every package takes the workspace's lints, and every pure crate bans what is not deterministic.

use super::PURE;
use super::tree::Tree;

/// What the clippy.toml of a pure crate must ban.
const BANNED: &[&str] = &[
    "f32",
    "f64",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Returns a finding for every manifest without the lints and every pure crate without the bans.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        findings.extend(manifest(&file.path, &file.text));
    }
    for pure in PURE {
        let path = format!("crates/{pure}/clippy.toml");
        let text = tree.file(&path).map_or("", |file| file.text.as_str());
        findings.extend(bans(&path, text));
    }
    findings
}

fn manifest(path: &str, text: &str) -> Vec<String> {
    let Ok(table) = text.parse::<toml::Table>() else {
        return vec![format!("{path}: not TOML")];
    };
    let lints = table.get("lints").and_then(|lints| lints.get("workspace"));
    if lints.and_then(toml::Value::as_bool) == Some(true) {
        Vec::new()
    } else {
        vec![format!("{path}: does not take the workspace's lints (`[lints] workspace = true`)")]
    }
}

fn bans(path: &str, text: &str) -> Vec<String> {
    let table = text.parse::<toml::Table>().unwrap_or_default();
    let types = table.get("disallowed-types").and_then(toml::Value::as_array);
    let has = |name: &str| {
        types.into_iter().flatten().any(|ban| {
            ban.get("path").and_then(toml::Value::as_str) == Some(name)
                && ban.get("reason").is_some()
        })
    };
    BANNED
        .iter()
        .filter(|name| !has(name))
        .map(|name| format!("{path}: does not ban `{name}`, with its reason"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_without_lints_is_found() {
        assert_eq!(manifest("x/Cargo.toml", "[package]\nname = \"x\"").len(), 1);
        assert_eq!(manifest("x/Cargo.toml", "[lints]\nworkspace = true").len(), 0);
    }

    #[test]
    fn a_ban_without_a_reason_is_none() {
        let text = "disallowed-types = [{ path = \"f32\" }, { path = \"f64\", reason = \"x\" }]";
        let findings = bans("clippy.toml", text);
        assert_eq!(findings.len(), BANNED.len() - 1, "only f64 is banned with a reason");
    }
}
