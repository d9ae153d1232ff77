//! What stands at the other ends: the database, the broker, and who talks TLS to us.

use std::path::Path;

use store::{DbConfig, Secret};

use super::{Database, Reader, Role};

/// The server's own certificate and key: both, or neither.
pub(super) fn identity(reader: &mut Reader<'_>) -> Option<server::tls::Identity> {
    let (certificate, key) = (reader.text("KX_TLS_CERTIFICATE"), reader.text("KX_TLS_KEY"));
    match (certificate, key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => {
            let read = server::tls::Identity::read(Path::new(&certificate), Path::new(&key));
            read.map_err(|error| {
                reader.faults.push(format!("KX_TLS_CERTIFICATE, KX_TLS_KEY: {error}"));
            })
            .ok()
        }
        _ => {
            let text = "KX_TLS_CERTIFICATE, KX_TLS_KEY: one is set without the other";
            reader.faults.push(text.to_owned());
            None
        }
    }
}

/// Where the database is: what is said, or a cluster of our own for `up` and the tools.
pub(super) fn database(role: Role, data_dir: &Path, reader: &mut Reader<'_>) -> Database {
    let alone = matches!(role, Role::Server | Role::PaymentProcessor);
    let host = reader.text("DB_HOST");
    let port = reader.port("DB_PORT");
    let password = reader.text("DB_PASSWORD");
    if !alone && host.is_none() {
        return Database::Embedded(data_dir.join("postgres"));
    }
    if password.is_none() {
        reader.faults.push("DB_PASSWORD: it is not set".to_owned());
    }
    Database::External(DbConfig {
        host: host.unwrap_or_else(|| reader.text_or_default("DB_HOST")),
        port,
        user: reader.text_or_default("DB_USER"),
        database: reader.text_or_default("DB_NAME"),
        password: password.map(Secret::new),
        ..DbConfig::default()
    })
}

/// The broker: a role alone needs one.
pub(super) fn rabbitmq(role: Role, reader: &mut Reader<'_>) -> Option<queue::Address> {
    let alone = matches!(role, Role::Server | Role::PaymentProcessor);
    let Some(url) = reader.text("RABBITMQ_URL") else {
        if alone {
            reader.faults.push(
                "RABBITMQ_URL: it is not set, and a role that is started alone needs a broker; \
                 `krystalinex up` runs everything in one process without one"
                    .to_owned(),
            );
        }
        return None;
    };
    match queue::Address::parse(&url) {
        Ok(address) => Some(address),
        Err(error) => {
            reader.faults.push(format!("RABBITMQ_URL: {error}"));
            None
        }
    }
}
