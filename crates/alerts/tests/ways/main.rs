//! The ways of a notice: through the relay, by the scripts, to GoAlert.

mod chain;
mod goalert;
mod relay;
mod scripts;
mod support;
