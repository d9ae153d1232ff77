//! The commands' queue and the journal's fan-out.
