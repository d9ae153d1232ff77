//! The engine against a second, naive exchange, and in scenes that can be read.

// Tests: indexing and plain arithmetic fail loudly enough here.

mod extremes;
mod naive;
mod pair;
mod program;
mod properties;
mod scenario;
mod scenarios;
