//! Where traces are kept, shown, taken in and sent.

use std::time::Duration;

use super::Reader;

/// What is done with traces.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// Whether the times of requests are noted at all.
    pub on: bool,
    /// The port of Jaeger's query API, and whether it was asked for; 0: none.
    pub jaeger_port: (u16, bool),
    /// The port on which spans are taken in, and whether it was asked for; 0: none.
    pub otlp_port: (u16, bool),
    /// How long traces are kept.
    pub keep: Duration,
    /// How many bytes they may take, about.
    pub bytes_max: u64,
    /// The collector.
    pub collector: Option<tracer::Endpoint>,
}

impl Tracing {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let collector = collector(reader);
        let port = |reader: &mut Reader<'_>, name: &str| {
            let given = reader.is_given(name);
            let port = reader
                .read(name, "a port from 1 to 65535, or 0 for none", |text| text.parse().ok());
            // Where there is a collector, Jaeger's own page is at its own port.
            match (given, &collector) {
                (false, Some(_)) => (0, false),
                _ => (port.unwrap_or(0), given && port != Some(0)),
            }
        };
        let switch = |text: &str| match text {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        };
        let whole =
            |text: &str| text.parse::<u64>().ok().filter(|number| (1..=3_650).contains(number));
        let days = reader.read("KX_TRACE_DAYS", "a whole number from 1 to 3650", whole);
        let mebibytes = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0);
        let size = reader.read("KX_TRACE_MIB_MAX", "a whole number above 0", mebibytes);
        Self {
            on: reader.read("KX_TRACES", "on or off", switch).unwrap_or(true),
            jaeger_port: port(reader, "JAEGER_PORT"),
            otlp_port: port(reader, "OTLP_PORT"),
            keep: Duration::from_secs(days.unwrap_or(7) * 86_400),
            bytes_max: size.unwrap_or(1).saturating_mul(1 << 20),
            collector,
        }
    }
}

fn collector(reader: &mut Reader<'_>) -> Option<tracer::Endpoint> {
    let url = reader.text("OTEL_EXPORTER_OTLP_ENDPOINT")?;
    let protocol = reader.text("OTEL_EXPORTER_OTLP_PROTOCOL");
    let headers = reader.text("OTEL_EXPORTER_OTLP_HEADERS");
    match tracer::Endpoint::parse(&url, protocol.as_deref(), headers.as_deref()) {
        Ok(endpoint) => Some(endpoint),
        Err(error) => {
            reader.faults.push(format!("OTEL_EXPORTER_OTLP_ENDPOINT: {error}"));
            None
        }
    }
}
