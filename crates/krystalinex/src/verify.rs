//! `krystalinex verify`: recomputes every invariant of the exchange from its journal and names the first row that is
//! wrong.
//!
//! Invariant: it changes nothing. What it compares with was made by this run alone, from the journal's first row.

pub mod journal_check;
pub mod report;
pub mod stream;
