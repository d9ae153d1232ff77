//! What a journal is born with.

use engine::{Action, AssetConfig, Limits, MarketConfig, Settings};

/// The first row's contents.
#[derive(Clone, Debug)]
pub struct Genesis {
    /// The random numbers, and whether play money is allowed.
    pub settings: Settings,
    /// The limits.
    pub limits: Limits,
    /// The assets; an asset's id is its position.
    pub assets: Vec<AssetConfig>,
    /// The markets; a market's id is its position.
    pub markets: Vec<MarketConfig>,
}

impl Genesis {
    /// Returns the actions of the first row, in order.
    pub fn actions(&self) -> impl Iterator<Item = Action> {
        let first = [Action::Genesis(self.settings), Action::SetLimits(self.limits)];
        let assets = self.assets.iter().cloned().map(Action::DefineAsset);
        let markets = self.markets.iter().cloned().map(Action::DefineMarket);
        first.into_iter().chain(assets).chain(markets)
    }
}
