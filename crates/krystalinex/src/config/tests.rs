use std::ffi::OsString;

use super::*;

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn load(role: Role, environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let mut faults = Vec::new();
    let variables =
        environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let environment = read_environment(variables, &mut faults);
    let data_dir = Some(PathBuf::from("/nowhere"));
    build(role, &BTreeMap::new(), &environment, data_dir, faults).map_err(|faults| faults.0)
}

#[test]
fn up_needs_nothing() {
    let config = load(Role::Up, &[]).expect("it embeds everything");
    assert_eq!(
        (config.port, config.processor_port, config.inbox_port),
        (5000, 3001, (1080, false))
    );
    assert!(config.jwt_secret.is_none() && config.rabbitmq.is_none());
    assert!(
        matches!(config.database, Database::Embedded(path) if path == Path::new("/nowhere/postgres"))
    );
    assert_eq!(config.mode, Mode::Development);
}

#[test]
fn a_role_alone_takes_appendix_a() {
    let good = [("JWT_SECRET", KEY), ("DB_PASSWORD", "p"), ("RABBITMQ_URL", "amqp://localhost")];
    let config = load(Role::Server, &good).expect("that is all it needs");
    let Database::External(database) = config.database else {
        panic!("a role alone embeds nothing");
    };
    assert_eq!((database.host.as_str(), database.port), ("localhost", 5432));
    for missing in ["JWT_SECRET", "DB_PASSWORD", "RABBITMQ_URL"] {
        let rest: Vec<_> = good.into_iter().filter(|(name, _)| *name != missing).collect();
        let faults = load(Role::Server, &rest).expect_err(missing);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains(missing), "{faults:?}");
    }
    assert_eq!(load(Role::Server, &[]).expect_err("nothing is set").len(), 3, "all faults at once");
}

#[test]
fn every_bad_value_is_named_and_no_secret_is_printed() {
    let cases = [
        ("PORT", "99999"),
        ("PORT", "0"),
        ("PORT", "-1"),
        ("PORT", "five"),
        ("PROCESSOR_PORT", "65536"),
        ("PROCESSOR_PORT", "5000"),
        ("NODE_ENV", "prod"),
        ("JWT_SECRET_PREVIOUS", "hush-hush-short"),
        ("KX_DATA_KEY", "hush-hush-short"),
        ("SMTP_URL", "http://me:hush-hush@mail.example.com"),
        ("KX_MAIL_FROM", "nobody"),
        ("KX_PUBLIC_URL", "exchange.example"),
        ("KX_WITHDRAWAL_FREEZE_HOURS", "-1"),
        ("KX_WITHDRAWAL_FREEZE_HOURS", "721"),
        ("JWT_SECRET", ""),
        ("JWT_SECRET", "   "),
        ("JWT_SECRET", "hush-hush-short"),
        ("JWT_SECRET", "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"),
        ("RABBITMQ_URL", "http://user:hush@host"),
        ("DB_PORT", "x"),
        ("KX_LISTEN", "localhost"),
        ("KX_LOG_FORMAT", "xml"),
        ("KX_TLS", "maybe"),
        ("KX_TRUSTED_PROXIES", "10.0.0.1,proxy"),
        ("KX_CORS_ORIGINS", "example.org"),
        ("KX_SNAPSHOT_COMMANDS", "0"),
        ("KX_BATCH_COMMANDS_MAX", "100000"),
        ("KX_PRICE_FEEDS", "coingecko"),
        ("KX_PRICE_FEEDS", "binance,kraken=http://me:hush-hush@host"),
        ("KX_PRICE_FEEDS", "kraken,kraken"),
        ("KX_PRICE_FEEDS_STALE_SECONDS", "5"),
        ("KX_DATADIR", "/x"),
        ("KX_COLOUR", "red"),
    ];
    for (name, value) in cases {
        let faults = load(Role::Up, &[(name, value)]).expect_err(name);
        assert_eq!(faults.len(), 1, "{name}={value}: {faults:?}");
        assert!(faults[0].contains(name), "{name}={value}: {faults:?}");
        assert!(!faults[0].contains("hush"), "{faults:?}");
    }
    let faults =
        load(Role::Up, &[("PORT", "x"), ("DB_PORT", "y"), ("NODE_ENV", "z")]).expect_err("three");
    assert_eq!(faults.len(), 3, "{faults:?}");
    let faults = load(Role::Up, &[("JWT_SECRET", " ")]).expect_err("it is empty");
    assert!(faults[0].starts_with("Invalid JWT_SECRET"), "{faults:?}");
}

#[test]
fn a_typing_error_is_told_what_was_meant() {
    let faults = load(Role::Up, &[("KX_MARKET", "x")]).expect_err("it is unknown");
    assert!(faults[0].contains("did you mean `KX_MARKETS`?"), "{faults:?}");
}

#[test]
fn nobody_outside_is_asked_unless_it_is_set() {
    let config = load(Role::Up, &[]).expect("it needs nothing");
    assert!(config.price_feeds.sources.is_empty());
    let set = [("KX_PRICE_FEEDS", "binance, kraken=http://127.0.0.1:8080")];
    let config = load(Role::Up, &set).expect("they are known");
    let names: Vec<_> = config.price_feeds.sources.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        ["binance=wss://data-stream.binance.vision/", "kraken=http://127.0.0.1:8080/"]
    );
    let secret = JwtSecret::new(KEY).expect("it is good");
    assert_eq!(config.for_server(secret).price_feeds, config.price_feeds);
}

#[test]
fn production_makes_no_key() {
    let faults = load(Role::Up, &[("NODE_ENV", "production")]).expect_err("a key is needed");
    assert!(faults[0].starts_with("Invalid JWT_SECRET"), "{faults:?}");
    assert!(load(Role::Up, &[("NODE_ENV", "production"), ("JWT_SECRET", KEY)]).is_ok());
}

#[test]
fn the_environment_overrides_the_file_and_unknown_keys_are_refused() {
    let mut faults = Vec::new();
    let table = "port = 6000\nprocessor_port = 6001\nkx_tls = true".parse().expect("it is TOML");
    let file = file_settings("kx.toml", table, &mut faults);
    let environment = BTreeMap::from([("PORT", "7000".to_owned())]);
    let config =
        build(Role::Up, &file, &environment, Some("/nowhere".into()), faults).expect("it is good");
    assert_eq!((config.port, config.processor_port, config.tls), (7000, 6001, true));

    let mut faults = Vec::new();
    let table = "prot = 1\nPORT = 2\nport = [1]".parse().expect("it is TOML");
    file_settings("kx.toml", table, &mut faults);
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(
        faults.iter().any(|fault| fault.contains("`prot`") && fault.contains("`port`?")),
        "{faults:?}"
    );
}

#[test]
fn the_reference_has_every_setting() {
    let reference = reference();
    assert!(SETTINGS.iter().all(|setting| reference.contains(setting.name)));
}
