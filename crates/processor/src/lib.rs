//! The sequencer: takes commands, decides them, appends them.
