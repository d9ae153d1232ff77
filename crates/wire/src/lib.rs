//! What crosses the edge: decimals, times, ids, addresses, and the bodies of the API.
//!
//! Invariant: no number that stands for money passes through floating point, in either direction. What cannot
//! be said exactly is refused with the rule and the nearest values that would pass; nothing is rounded silently.

pub mod address;
pub mod body;
pub mod checksum;
pub mod decimal;
pub mod enums;
#[cfg(test)]
mod fuzz;
pub mod id;
pub mod input;
pub mod order;
pub mod render;
pub mod symbol;
pub mod time;

pub use input::DecimalInput;
