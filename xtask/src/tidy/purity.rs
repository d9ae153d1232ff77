//! The pure core stays pure: what it reaches through normal dependencies is on a list.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::PURE;
use super::tree::Tree;

/// Crates from outside that the pure core may reach: maps, hashing and compression, and the helpers that
/// those bring along. None does I/O, keeps time, draws random numbers or derives a format.
const ALLOWED: &[&str] = &[
    // Maps with a fixed hasher.
    "hashbrown",
    "foldhash",
    // Errors.
    "thiserror",
    "thiserror-impl",
    // SHA-256 and what it is made of.
    "sha2",
    "digest",
    "block-buffer",
    "crypto-common",
    "hybrid-array",
    "typenum",
    "const-oid",
    "generic-array",
    "cpufeatures",
    "ctutils",
    "cmov",
    "libc",
    "cfg-if",
    // Compression, checksums.
    "lz4_flex",
    "twox-hash",
    // Derives, at build time only.
    "proc-macro2",
    "quote",
    "syn",
    "unicode-ident",
];

/// Returns a finding for every crate that a pure crate reaches and may not.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let graph = normal_dependencies(&tree.metadata);
    let mut findings = Vec::new();
    for pure in PURE {
        let Some(start) = graph.keys().find(|package| name(package) == *pure) else {
            findings.push(format!("crates/{pure}: the pure crate is not in the workspace"));
            continue;
        };
        for (reached, by) in reach(&graph, start) {
            if !PURE.contains(&name(&reached)) && !ALLOWED.contains(&name(&reached)) {
                findings
                    .push(format!("crates/{pure}: pure, but reaches `{reached}` through `{by}`"));
            }
        }
    }
    findings
}

/// The name of a package that is named with its version.
fn name(package: &str) -> &str {
    package.split(' ').next().unwrap_or_default()
}

/// Package → its normal dependencies, all named with their versions: two versions of one package reach different things.
fn normal_dependencies(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names: BTreeMap<String, String> = list(&metadata["packages"])
        .iter()
        .map(|package| {
            let named = format!("{} {}", text(&package["name"]), text(&package["version"]));
            (text(&package["id"]), named)
        })
        .collect();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let reached = graph.entry(names[&text(&node["id"])].clone()).or_default();
        for dependency in list(&node["deps"]) {
            let normal = list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            if normal {
                reached.insert(names[&text(&dependency["pkg"])].clone());
            }
        }
    }
    graph
}

/// Everything reached from `start`, each with the crate that brings it.
fn reach(graph: &BTreeMap<String, BTreeSet<String>>, start: &str) -> BTreeMap<String, String> {
    let mut reached = BTreeMap::new();
    let mut open = vec![start.to_owned()];
    while let Some(name) = open.pop() {
        for next in graph.get(&name).into_iter().flatten() {
            if !reached.contains_key(next) {
                reached.insert(next.clone(), name.clone());
                open.push(next.clone());
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
        edges
            .iter()
            .map(|(name, to)| ((*name).to_owned(), to.iter().map(|to| (*to).to_owned()).collect()))
            .collect()
    }

    #[test]
    fn what_a_dependency_brings_is_reached_too() {
        let graph = graph(&[("engine", &["ledger"]), ("ledger", &["tokio"]), ("tokio", &[])]);
        assert_eq!(reach(&graph, "engine")["tokio"], "ledger");
    }

    #[test]
    fn dev_and_build_dependencies_do_not_count() {
        let metadata = serde_json::json!({
            "packages": [
                {"id": "1", "name": "units", "version": "0.1.0"},
                {"id": "2", "name": "proptest", "version": "1.0.0"},
                {"id": "3", "name": "sha2", "version": "0.11.0"}
            ],
            "resolve": {"nodes": [{"id": "1", "deps": [
                {"pkg": "2", "dep_kinds": [{"kind": "dev"}]},
                {"pkg": "3", "dep_kinds": [{"kind": "dev"}, {"kind": null}]}
            ]}]}
        });
        let graph = normal_dependencies(&metadata);
        assert_eq!(graph["units 0.1.0"], BTreeSet::from(["sha2 0.11.0".to_owned()]));
    }
}
