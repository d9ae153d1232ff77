//! `config/markets.toml`: read, checked exactly, compared with the state.
//!
//! Invariant: no number passes through floating point, and a market whose grid is not whole never leaves this module.

use std::path::Path;

use anyhow::{Context, bail};
use engine::{Action, AssetConfig, Limits, MarketConfig, State};
use serde::Deserialize;
use units::{Amount, AssetId, PriceTicks, QuantityLots, RatePpm};

/// The file that the program carries, for when none is named.
pub const BUILT_IN: &str = include_str!("../../../config/markets.toml");

/// Assets, markets and limits, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markets {
    /// The limits.
    pub limits: Limits,
    /// The assets; an asset's id is its position.
    pub assets: Vec<AssetConfig>,
    /// The markets.
    pub markets: Vec<MarketConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    limits: LimitsFile,
    #[serde(default)]
    asset: Vec<AssetFile>,
    #[serde(default)]
    market: Vec<MarketFile>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsFile {
    open_orders_max: Option<u32>,
    maker_open_orders_max: Option<u32>,
    orders_per_second_max: Option<u32>,
    maker_orders_per_second_max: Option<u32>,
    steps_max: Option<u32>,
    dedup_window_seconds: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AssetFile {
    symbol: String,
    scale: u8,
    transfer_scale: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MarketFile {
    symbol: String,
    tick: String,
    lot: String,
    notional_min: String,
    quantity_max: String,
    maker_fee: String,
    taker_fee: String,
    band: Option<String>,
    halt_move: Option<String>,
    initial_price: Option<String>,
}

/// Reads a file; the one that the program carries where none is named.
///
/// # Errors
///
/// What is wrong with it, naming the asset or market.
pub fn load(path: Option<&Path>) -> anyhow::Result<Markets> {
    let Some(path) = path else {
        return parse(BUILT_IN).context("config/markets.toml, as built in");
    };
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}

/// Reads and checks the text of a file.
///
/// # Errors
///
/// What is wrong with it, naming the asset or market.
pub fn parse(text: &str) -> anyhow::Result<Markets> {
    let file: File = toml::from_str(text)?;
    let mut assets: Vec<AssetConfig> = Vec::new();
    for asset in file.asset {
        let name = asset.symbol.clone();
        let config = read_asset(asset).with_context(|| format!("asset {name}"))?;
        if assets.iter().any(|known| known.symbol == config.symbol) {
            bail!("asset {name}: it is there twice");
        }
        assets.push(config);
    }
    let mut markets: Vec<MarketConfig> = Vec::new();
    for market in file.market {
        let config =
            read_market(&market, &assets).with_context(|| format!("market {}", market.symbol))?;
        if markets.iter().any(|known| known.symbol == config.symbol) {
            bail!("market {}: it is there twice", config.symbol);
        }
        markets.push(config);
    }
    Ok(Markets { limits: read_limits(&file.limits), assets, markets })
}

fn read_limits(file: &LimitsFile) -> Limits {
    let or = Limits::default();
    Limits {
        open_orders_max: file.open_orders_max.unwrap_or(or.open_orders_max),
        maker_open_orders_max: file.maker_open_orders_max.unwrap_or(or.maker_open_orders_max),
        orders_per_second_max: file.orders_per_second_max.unwrap_or(or.orders_per_second_max),
        maker_orders_per_second_max: file
            .maker_orders_per_second_max
            .unwrap_or(or.maker_orders_per_second_max),
        steps_max: file.steps_max.unwrap_or(or.steps_max),
        dedup_window_micros: file
            .dedup_window_seconds
            .map_or(or.dedup_window_micros, |seconds| u64::from(seconds) * 1_000_000),
    }
}

fn read_asset(asset: AssetFile) -> anyhow::Result<AssetConfig> {
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    if !(2..=10).contains(&asset.symbol.len()) || !asset.symbol.bytes().all(plain) {
        bail!("symbol must be 2 to 10 upper-case letters or digits");
    }
    if asset.scale > 24 || asset.transfer_scale > asset.scale {
        bail!("scale must be at most 24, and transfer_scale at most scale");
    }
    Ok(AssetConfig {
        symbol: asset.symbol.into(),
        scale: asset.scale,
        transfer_scale: asset.transfer_scale,
    })
}

fn read_market(file: &MarketFile, assets: &[AssetConfig]) -> anyhow::Result<MarketConfig> {
    let (base, quote) = file.symbol.split_once('/').context("symbol must be BASE/QUOTE")?;
    let find = |symbol: &str| {
        let place = assets.iter().position(|asset| &*asset.symbol == symbol);
        let place = place.with_context(|| format!("there is no asset {symbol}"))?;
        Ok::<_, anyhow::Error>((AssetId::new(u16::try_from(place)?), &assets[place]))
    };
    let ((base, base_asset), (quote, quote_asset)) = (find(base)?, find(quote)?);
    if base == quote {
        bail!("base and quote must be two assets");
    }
    let tick = amount(quote_asset, "tick", &file.tick)?;
    let lot = amount(base_asset, "lot", &file.lot)?;
    let whole = 10_u128.pow(u32::from(base_asset.scale));
    let product = tick.checked_mul(lot).context("tick × lot is too large")?;
    if product % whole != 0 {
        bail!(
            "tick × lot ({} × {}) is not a whole number of {} units of 10^-{}: make the tick or the lot larger, or the \
             scale of {} finer",
            file.tick,
            file.lot,
            quote_asset.symbol,
            quote_asset.scale,
            quote_asset.symbol
        );
    }
    let notional_min = amount(quote_asset, "notional_min", &file.notional_min)?;
    let quantity_max = on_grid(
        amount(base_asset, "quantity_max", &file.quantity_max)?,
        lot,
        "quantity_max",
        "lots",
    )?;
    let initial_price = match &file.initial_price {
        None => None,
        Some(text) => PriceTicks::new(on_grid(
            amount(quote_asset, "initial_price", text)?,
            tick,
            "initial_price",
            "ticks",
        )?),
    };
    let optional =
        |name, text: &Option<String>| text.as_deref().map(|text| rate(name, text)).transpose();
    Ok(MarketConfig {
        symbol: file.symbol.as_str().into(),
        base,
        quote,
        base_units_per_lot: u64::try_from(lot).context("lot is too large")?,
        quote_units_per_tick_lot: u64::try_from(product / whole)
            .context("tick × lot is too large")?,
        tick_size: Amount::new(tick),
        notional_min: Amount::new(notional_min),
        quantity_max: QuantityLots::new(quantity_max),
        maker_fee: rate("maker_fee", &file.maker_fee)?,
        taker_fee: rate("taker_fee", &file.taker_fee)?,
        band: optional("band", &file.band)?,
        halt_move: optional("halt_move", &file.halt_move)?,
        initial_price,
    })
}

/// Reads a positive decimal of an asset, in its ledger units.
fn amount(asset: &AssetConfig, name: &str, text: &str) -> anyhow::Result<u128> {
    match wire::decimal::parse_amount(asset, text) {
        Ok(amount) if !amount.is_zero() => Ok(amount.get()),
        Ok(_) => bail!("{name} must be greater than zero"),
        Err(error) => bail!(
            "{name} = \"{text}\": {error} (one unit of {} is 10^-{})",
            asset.symbol,
            asset.scale
        ),
    }
}

fn on_grid(units: u128, step: u128, name: &str, steps: &str) -> anyhow::Result<u64> {
    if !units.is_multiple_of(step) {
        bail!("{name} is not a whole number of {steps}");
    }
    u64::try_from(units / step).with_context(|| format!("{name} is too large"))
}

/// Reads a percentage such as `0.10%`, below 100 %, in parts per million.
fn rate(name: &str, text: &str) -> anyhow::Result<RatePpm> {
    let number = text
        .strip_suffix('%')
        .with_context(|| format!("{name} = \"{text}\": it must end with %"))?;
    if number.bytes().all(|byte| byte == b'0' || byte == b'.') && number.starts_with('0') {
        return Ok(RatePpm::new(0));
    }
    // One percent is 10^4 parts per million, so a percentage with four decimals is a whole number of them.
    let percent = AssetConfig { symbol: "PERCENT".into(), scale: 4, transfer_scale: 4 };
    let parsed = wire::decimal::parse_amount(&percent, number);
    let parsed = parsed.map_err(|error| anyhow::anyhow!("{name} = \"{text}\": {error}"))?;
    match u32::try_from(parsed.get()) {
        Ok(ppm) if ppm < units::PPM => Ok(RatePpm::new(ppm)),
        _ => bail!("{name} = \"{text}\": it must be less than 100 %"),
    }
}

impl Markets {
    /// Returns the actions that make the state say what the file says, in order; none where it does already. What the
    /// file leaves out stays as it is.
    ///
    /// # Errors
    ///
    /// An asset of the file that stands at another place than in the state cannot be named by a market of the file.
    pub fn differences(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::new();
        if *state.limits() != self.limits {
            actions.push(Action::SetLimits(self.limits));
        }
        // Ids are places: an asset that the state does not know yet gets the next.
        let mut symbols: Vec<&str> = state.assets().iter().map(|asset| &*asset.symbol).collect();
        for asset in &self.assets {
            if !state.assets().contains(asset) {
                actions.push(Action::DefineAsset(asset.clone()));
            }
            if !symbols.contains(&&*asset.symbol) {
                symbols.push(&asset.symbol);
            }
        }
        for market in &self.markets {
            let id = |of: AssetId| {
                let asset = self.assets.get(usize::from(of.get()))?;
                let place = symbols.iter().position(|symbol| *symbol == &*asset.symbol)?;
                u16::try_from(place).ok().map(AssetId::new)
            };
            let (Some(base), Some(quote)) = (id(market.base), id(market.quote)) else {
                continue;
            };
            let market = MarketConfig { base, quote, ..market.clone() };
            let same = state.market_by_symbol(&market.symbol).and_then(|id| state.market(id));
            if same.is_none_or(|view| *view.config != market) {
                actions.push(Action::DefineMarket(market));
            }
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSETS: &str = r#"
        [[asset]]
        symbol = "USD"
        scale = 4
        transfer_scale = 2
        [[asset]]
        symbol = "BTC"
        scale = 8
        transfer_scale = 8
    "#;

    fn market(line: &str) -> String {
        let mut fields = vec![
            ("symbol", "\"BTC/USD\""),
            ("tick", "\"0.01\""),
            ("lot", "\"0.01\""),
            ("notional_min", "\"1\""),
            ("quantity_max", "\"100\""),
            ("maker_fee", "\"0%\""),
            ("taker_fee", "\"0.0001%\""),
            ("initial_price", "\"100.25\""),
        ];
        let (name, value) = line.split_once('=').expect("a line of TOML");
        fields.retain(|(known, _)| *known != name.trim());
        fields.push((name.trim(), value.trim()));
        let fields: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        format!("{ASSETS}\n[[market]]\n{}\n", fields.join("\n"))
    }

    #[test]
    fn the_file_that_is_shipped_is_accepted_by_the_core() {
        let markets = load(None).expect("it is good");
        assert_eq!(markets.markets.len(), 5);
        let settings = engine::Settings { incarnation: 1, salt: 2, sandbox: true };
        let mut state = State::new();
        state.open_batch(engine::Stamp {
            sequence: units::Sequence::new(1),
            time: units::Time::ZERO,
        });
        let genesis = std::iter::once(Action::Genesis(settings));
        let defined: Vec<Action> = genesis.chain(markets.differences(&state)).collect();
        for action in defined {
            let command = engine::internal_command(action);
            let decision = engine::run(&mut state, &command, &mut ());
            assert_eq!(
                decision,
                engine::Decision::Event(engine::Event::Done),
                "{:?}",
                command.action
            );
        }
        assert_eq!(markets.differences(&state), [], "nothing is left to apply");
    }

    #[test]
    fn numbers_are_exact() {
        let markets = parse(&market("tick = \"0.05\"")).expect("it is good");
        let market = &markets.markets[0];
        assert_eq!(market.base_units_per_lot, 1_000_000);
        assert_eq!(market.tick_size, Amount::new(500));
        assert_eq!(market.quote_units_per_tick_lot, 5);
        assert_eq!(market.initial_price.map(PriceTicks::get), Some(2_005));
        assert_eq!(market.taker_fee, RatePpm::new(1));
        assert_eq!(market.maker_fee, RatePpm::new(0));
        assert_eq!(market.quantity_max, QuantityLots::new(10_000));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_market() {
        let cases = [
            ("lot = \"0.001\"", "tick × lot"),
            ("tick = \"0.00001\"", "tick = "),
            ("tick = \"0\"", "tick"),
            ("tick = 0.01", "tick"),
            ("tick = \"-1\"", "tick"),
            ("tick = \"1e3\"", "tick"),
            ("symbol = \"BTC\"", "BASE/QUOTE"),
            ("symbol = \"ETH/USD\"", "no asset ETH"),
            ("symbol = \"BTC/BTC\"", "two assets"),
            ("initial_price = \"100.251\"", "initial_price"),
            ("maker_fee = \"0.1\"", "maker_fee"),
            ("taker_fee = \"100%\"", "taker_fee"),
            ("taker_fee = \"0.00001%\"", "taker_fee"),
            ("spread = \"1\"", "spread"),
        ];
        for (line, named) in cases {
            let refusal = format!("{:#}", parse(&market(line)).expect_err(line));
            assert!(refusal.contains(named), "{line}: {refusal}");
        }
        let refusal = format!("{:#}", parse(&market("lot = \"0.001\"")).expect_err("not whole"));
        assert!(refusal.starts_with("market BTC/USD: "), "{refusal}");
    }

    #[test]
    fn unknown_keys_and_doubles_are_refused() {
        assert!(parse("colour = \"red\"").is_err());
        assert!(parse("[limits]\nopen_orders = 5").is_err());
        let doubled = format!("{ASSETS}\n{ASSETS}");
        assert!(format!("{:#}", parse(&doubled).expect_err("twice")).contains("USD"));
    }
}
