//! The trace store on a real PostgreSQL, and what comes in and goes out by OTLP.

mod export;
mod otlp;
mod store;
mod world;
