//! Follows the journal and keeps the live state.
