//! Settings of what protects accounts: signed requests, what may leave, how much is taken of one caller.

use std::time::Duration;

use server::{KeyRules, Mode, RateLimits, ServerConfig, WithdrawalRules};

use super::Reader;

/// What protects accounts.
#[derive(Clone, Debug, Default)]
pub struct Protection {
    /// How signed requests are taken.
    pub keys: KeyRules,
    /// What may leave an account.
    pub withdrawals: WithdrawalRules,
    /// Requests that one caller may make.
    pub rate_limits: RateLimits,
    /// Connections at once; as many as a server has by itself where it is not set.
    pub connections_max: Option<usize>,
}

impl Protection {
    /// Hands it to a server.
    pub fn apply(&self, config: &mut ServerConfig) {
        config.keys = self.keys.clone();
        config.withdrawals = self.withdrawals.clone();
        config.rate_limits = self.rate_limits;
        if let Some(max) = self.connections_max {
            config.connections_max = max;
        }
    }

    pub(super) fn read(mode: Mode, reader: &mut Reader<'_>) -> Self {
        let keys = KeyRules {
            window: reader
                .read("KX_KEYS_WINDOW_MS", "milliseconds from 100 to 60000", window)
                .unwrap_or_default(),
        };
        let default = mode == Mode::Production;
        let allow_list = |text: &str| match text {
            "" => Some(default),
            "required" => Some(true),
            "optional" => Some(false),
            _ => None,
        };
        let withdrawals = WithdrawalRules {
            must_be_listed: reader
                .read("KX_WITHDRAWAL_ALLOW_LIST", "required or optional", allow_list)
                .unwrap_or_default(),
            cooling_off: reader
                .read("KX_WITHDRAWAL_COOLING_OFF_HOURS", "hours from 0 to 720", hours)
                .unwrap_or_default(),
            daily_max: reader.list(
                "KX_WITHDRAWAL_LIMITS",
                "assets with decimals, such as BTC=2,USD=50000",
                daily_max,
            ),
        };
        let rule = "`none`, or such as anonymous=100,user=100,orders=2000,attempts=60,money=600";
        let rate_limits = reader.read("KX_RATE_LIMITS", rule, |text| text.parse().ok());
        let connections_max =
            reader.read("KX_CONNECTIONS_MAX", "a whole number from 1 to 1000000", connections);
        Self { keys, withdrawals, rate_limits: rate_limits.unwrap_or_default(), connections_max }
    }
}

fn window(text: &str) -> Option<Duration> {
    let millis = text.parse().ok().filter(|millis| (100..=60_000).contains(millis))?;
    Some(Duration::from_millis(millis))
}

fn connections(text: &str) -> Option<usize> {
    text.parse().ok().filter(|connections| (1..=1_000_000).contains(connections))
}

fn hours(text: &str) -> Option<Duration> {
    let hours: u64 = text.parse().ok().filter(|hours| *hours <= 720)?;
    Some(Duration::from_secs(hours * 3_600))
}

fn daily_max(text: &str) -> Option<(String, String)> {
    let (asset, amount) = text.split_once('=')?;
    let (asset, amount) = (asset.trim(), amount.trim());
    let symbol = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, "0"));
    let good = !asset.is_empty()
        && asset.bytes().all(symbol)
        && digits(whole)
        && digits(fraction)
        && amount.len() <= 32;
    good.then(|| (asset.to_owned(), amount.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_withdrawals_are_assets_with_decimals() {
        assert_eq!(daily_max("BTC=2.5"), Some(("BTC".to_owned(), "2.5".to_owned())));
        assert_eq!(daily_max(" USD = 50000"), Some(("USD".to_owned(), "50000".to_owned())));
        for text in
            ["", "BTC", "BTC=", "=1", "btc=1", "BTC=-1", "BTC=1.", "BTC=.5", "BTC=1e3", "BTC=x"]
        {
            assert_eq!(daily_max(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_bounded() {
        assert_eq!(hours("24"), Some(Duration::from_secs(86_400)));
        assert_eq!((hours("721"), hours("-1"), hours("")), (None, None, None));
        assert_eq!(window("5000"), Some(Duration::from_secs(5)));
        assert_eq!((window("99"), window("60001")), (None, None));
        assert_eq!((connections("1"), connections("0"), connections("x")), (Some(1), None, None));
    }
}
