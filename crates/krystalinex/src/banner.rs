//! What `up` says when it is ready, on standard error: the log has standard output.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::config::Config;
use crate::demo::USERS;

/// Prints where everything is.
pub fn print(
    config: &Config,
    cluster: Option<(u16, PathBuf)>,
    beside: &[(&str, String)],
    inbox: bool,
    demo: bool,
) {
    let port = config.port;
    let mut text = String::new();
    let mut line = |name: &str, what: String| {
        let _ = writeln!(text, "  {name:<12} {what}");
    };
    line(
        "API",
        format!("http://localhost:{port}/api/v1   (described at http://localhost:{port}/docs)"),
    );
    line("WebSocket", format!("ws://localhost:{port}/ws"));
    line(
        "health",
        format!("http://localhost:{port}/ready   http://localhost:{}/ready", config.processor_port),
    );
    line("metrics", format!("http://localhost:{port}/metrics"));
    if config.tracing.on && config.tracing.jaeger_port.0 != 0 {
        line("traces", format!("http://localhost:{}", config.tracing.jaeger_port.0));
    }
    if inbox {
        line(
            "mail",
            format!(
                "http://localhost:{}   (the development inbox: verification codes arrive here)",
                config.inbox_port.0
            ),
        );
    }
    if let Some((port, password)) = cluster {
        line(
            "database",
            format!(
                "PGPASSWORD=$(cat '{}') psql -h localhost -p {port} -U exchange -d crypto_exchange",
                password.display()
            ),
        );
    }
    for (name, place) in beside {
        line(name, place.clone());
    }
    line("data", config.data_dir.display().to_string());
    if demo {
        for user in &USERS {
            line("demo login", format!("{} / {}", user.email, user.password));
        }
        line("", "A market maker quotes around a SIMULATED price: made up, no feed from anywhere, play money only.".to_owned());
    }
    let version = env!("CARGO_PKG_VERSION");
    crate::process::say(&format!(
        "\nKrystalineX {version} is ready.\n{text}\n  Ctrl-C stops it.\n"
    ));
}
