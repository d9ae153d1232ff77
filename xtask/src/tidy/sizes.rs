//! Files of at most 500 lines, functions of at most 70, tests apart.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::tree::{File, Tree};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// Returns a finding for every file and function that is too long, and for every exception that is not one.
pub(crate) fn check(tree: &Tree, exceptions: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        let found = check_file(file);
        let excepted = exceptions.contains(&file.path.as_str());
        if !excepted {
            findings.extend(found);
        } else if found.is_empty() {
            findings.push(format!("{}: no exception is needed any more", file.path));
        }
    }
    for exception in exceptions.iter().filter(|path| tree.file(path).is_none()) {
        findings.push(format!("{exception}: an exception for a file that is not there"));
    }
    findings
}

fn check_file(file: &File) -> Vec<String> {
    let path = &file.path;
    if path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs") {
        return Vec::new();
    }
    let parsed = match syn::parse_file(&file.text) {
        Ok(parsed) => parsed,
        Err(error) => return vec![format!("{path}: does not parse: {error}")],
    };
    let mut measure = Measure::default();
    measure.visit_file(&parsed);

    let lines = file.text.lines().count().saturating_sub(measure.test_lines);
    let mut findings = Vec::new();
    if lines > FILE_LINES_MAX {
        findings.push(format!("{path}: {lines} lines, at most {FILE_LINES_MAX} (tests apart)"));
    }
    for (name, line, length) in measure.functions {
        if length > FUNCTION_LINES_MAX {
            findings.push(format!(
                "{path}:{line}: fn {name} has {length} lines, at most {FUNCTION_LINES_MAX}"
            ));
        }
    }
    findings
}

#[derive(Default)]
struct Measure {
    /// Name, first line, number of lines.
    functions: Vec<(String, usize, usize)>,
    test_lines: usize,
}

impl Measure {
    /// Counts an item as test code if its attributes say so.
    fn is_test(&mut self, attributes: &[syn::Attribute], span: Span) -> bool {
        let test = attributes.iter().any(is_test_attribute);
        if test {
            self.test_lines += lines(span);
        }
        test
    }

    fn function(&mut self, name: &syn::Ident, start: Span, block: &syn::Block) {
        let first = start.start().line;
        let length = block.span().end().line + 1 - first;
        self.functions.push((name.to_string(), first, length));
    }
}

fn lines(span: Span) -> usize {
    span.end().line + 1 - span.start().line
}

/// `#[test]`, `#[tokio::test]`, `#[cfg(test)]`, `#[cfg(any(test, …))]`.
fn is_test_attribute(attribute: &syn::Attribute) -> bool {
    let is_test = attribute.path().segments.last().is_some_and(|last| last.ident == "test");
    let is_cfg = attribute.path().is_ident("cfg")
        && attribute.meta.require_list().is_ok_and(|list| mentions_test(list.tokens.clone()));
    is_test || is_cfg
}

fn mentions_test(tokens: proc_macro2::TokenStream) -> bool {
    let mut negated = false;
    for token in tokens {
        match token {
            proc_macro2::TokenTree::Ident(ident) if ident == "test" => return true,
            proc_macro2::TokenTree::Ident(ident) => negated = ident == "not",
            proc_macro2::TokenTree::Group(group) if !negated && mentions_test(group.stream()) => {
                return true;
            }
            _ => {}
        }
    }
    false
}

impl<'ast> Visit<'ast> for Measure {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !self.is_test(&item.attrs, item.span()) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !self.is_test(&item.attrs, item.span()) {
            self.function(&item.sig.ident, item.sig.span(), &item.block);
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !self.is_test(&item.attrs, item.span()) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !self.is_test(&item.attrs, item.span()) {
            self.function(&item.sig.ident, item.sig.span(), &item.block);
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig.ident, item.sig.span(), block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: String) -> usize {
        check_file(&File { path: "crates/x/src/lib.rs".into(), text }).len()
    }

    fn function(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    let _ = 1;\n".repeat(lines - 2))
    }

    #[test]
    fn a_function_of_71_lines_is_found() {
        assert_eq!(findings(function(FUNCTION_LINES_MAX)), 0);
        assert_eq!(findings(function(FUNCTION_LINES_MAX + 1)), 1);
    }

    #[test]
    fn a_method_is_measured_like_a_function() {
        let method = function(FUNCTION_LINES_MAX + 1);
        assert_eq!(findings(format!("struct X;\nimpl X {{\n{method}}}\n")), 1);
    }

    #[test]
    fn a_file_of_501_lines_is_found() {
        assert_eq!(findings("\n".repeat(FILE_LINES_MAX)), 0);
        assert_eq!(findings("\n".repeat(FILE_LINES_MAX + 1)), 1);
    }

    #[test]
    fn tests_do_not_count() {
        let long = function(FUNCTION_LINES_MAX + 1);
        let padding = "\n".repeat(FILE_LINES_MAX - 10);
        assert_eq!(findings(format!("{padding}#[cfg(test)]\nmod tests {{\n{long}}}\n")), 0);
        assert_eq!(findings(format!("{padding}#[cfg(not(test))]\nmod other {{\n{long}}}\n")), 2);
    }

    #[test]
    fn an_exception_that_is_not_needed_is_found() {
        let file = File { path: "a.rs".into(), text: String::new() };
        let tree = Tree { files: vec![file], metadata: serde_json::Value::Null };
        assert_eq!(check(&tree, &["a.rs", "gone.rs"]).len(), 2);
    }
}
