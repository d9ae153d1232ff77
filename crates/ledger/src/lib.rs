//! Accounts, holds and balanced transfers.
