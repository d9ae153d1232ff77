//! The last words of a process.

use std::backtrace::Backtrace;
use std::io::Write as _;
use std::panic::PanicHookInfo;

use serde_json::json;

use crate::log::json_time;

/// Replaces the panic hook: a panic becomes one JSON line on standard output and, since that may be lost with its
/// buffer's reader, one on standard error too; both are flushed before the hook returns.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let line = describe(info);
        // Nothing can be done about an output that is gone; a second panic here would abort without a word.
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}");
        let _ = out.flush();
        let mut err = std::io::stderr().lock();
        let _ = writeln!(err, "{line}");
        let _ = err.flush();
    }));
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words");
    let location = info.location().map(ToString::to_string);
    json!({
        "timestamp": json_time(),
        "level": "error",
        "target": "panic",
        "message": message,
        "location": location,
        "thread": std::thread::current().name(),
        "backtrace": Backtrace::capture().to_string(),
        "trace_id": null,
    })
    .to_string()
}
