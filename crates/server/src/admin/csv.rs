//! Rows of text that a spreadsheet opens as text.
//!
//! Invariant: no cell begins with a character that makes a formula of it.

/// Writes a row: every cell quoted, and one that a spreadsheet would take for a formula behind an apostrophe.
pub(super) fn row<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let mut line = String::new();
    for (at, cell) in cells.into_iter().enumerate() {
        if at > 0 {
            line.push(',');
        }
        line.push('"');
        if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
            line.push('\'');
        }
        for c in cell.chars() {
            if c == '"' {
                line.push('"');
            }
            line.push(c);
        }
        line.push('"');
    }
    line.push_str("\r\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_would_be_a_formula_is_text() {
        assert_eq!(row(["a", "", "b,\"c\""]), "\"a\",\"\",\"b,\"\"c\"\"\"\r\n");
        for bad in ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", "\r=1"] {
            let line = row([bad]);
            assert!(line.starts_with("\"'"), "{line:?}");
        }
        assert_eq!(row(["1=2"]), "\"1=2\"\r\n");
    }
}
