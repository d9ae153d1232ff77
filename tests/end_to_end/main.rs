//! What a person, a bot and an operator are promised, against the real binary.
//!
//! The binary is the release build that `./kx up` runs. Each test has an exchange of its own, in a directory of
//! its own, on free ports.

mod crash;
mod full;
mod fuzz_api;
mod lifecycle;
mod mail;
mod money;
mod operations;
mod readme;
mod runbook;
mod tamper;
mod tls;
mod users;
