//! What `up --full` runs beside the exchange: ports, passwords, who is told of alerts.

use std::path::PathBuf;

use store::Secret;

use super::Reader;

/// What is run beside the exchange.
#[derive(Clone, Debug)]
pub struct Beside {
    /// RabbitMQ: AMQP.
    pub amqp_port: u16,
    /// RabbitMQ: the management page.
    pub rabbitmq_port: u16,
    /// RabbitMQ: the metrics.
    pub rabbitmq_metrics_port: u16,
    /// Prometheus.
    pub prometheus_port: u16,
    /// Alertmanager.
    pub alertmanager_port: u16,
    /// The exporter of PostgreSQL's figures.
    pub postgres_exporter_port: u16,
    /// The password of RabbitMQ's user `admin`; `None`: one is made.
    pub rabbitmq_password: Option<Secret>,
    /// The file with the key of GoAlert's integration; `None`: GoAlert is not told.
    pub goalert_key_file: Option<PathBuf>,
}

impl Beside {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            amqp_port: reader.port("KX_AMQP_PORT"),
            rabbitmq_port: reader.port("KX_RABBITMQ_PORT"),
            rabbitmq_metrics_port: reader.port("KX_RABBITMQ_METRICS_PORT"),
            prometheus_port: reader.port("KX_PROMETHEUS_PORT"),
            alertmanager_port: reader.port("KX_ALERTMANAGER_PORT"),
            postgres_exporter_port: reader.port("KX_POSTGRES_EXPORTER_PORT"),
            rabbitmq_password: reader.text("RABBITMQ_PASSWORD").map(Secret::new),
            goalert_key_file: reader.text("KX_GOALERT_KEY_FILE").map(PathBuf::from),
        }
    }
}
