//! One account: its counter of changes and its balances.

use units::{AccountId, AssetId, Balance};

/// How many balances an account has beside its id. More than these are elsewhere.
const NEAR: usize = 2;

/// One account, on two cache lines with its first balances, which most accounts have no more than.
///
/// Invariant: balances are in the order of asset ids, those elsewhere behind those here.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct Account {
    pub(crate) id: AccountId,
    pub(crate) sequence: u64,
    /// Of what the balances here are; [`VACANT`] from the first place on that has none.
    assets: [u32; NEAR],
    near: [Balance; NEAR],
    far: Vec<(AssetId, Balance)>,
}

impl Account {
    pub(crate) fn new(id: AccountId) -> Self {
        let (assets, near) = ([VACANT; NEAR], [Balance::default(); NEAR]);
        Self { id, sequence: 0, assets, near, far: Vec::new() }
    }

    /// Finds the balance of an asset. As they are in the order of ids, it stands where its id says if the account has had
    /// every asset before it, as is likely of the first ones.
    #[inline]
    pub(crate) fn balance(&self, asset: AssetId) -> Option<&Balance> {
        let likely = usize::from(asset.get());
        if self.assets.get(likely) == Some(&number(asset)) {
            return self.near.get(likely);
        }
        match self.place_of(asset)? {
            Place::Near(at) => self.near.get(at),
            Place::Far(at) => self.far.get(at).map(|(_, balance)| balance),
        }
    }

    /// The same as [`Account::balance`], to change it.
    #[inline]
    pub(crate) fn balance_mut(&mut self, asset: AssetId) -> Option<&mut Balance> {
        let likely = usize::from(asset.get());
        if self.assets.get(likely) == Some(&number(asset)) {
            return self.near.get_mut(likely);
        }
        self.unlikely_mut(asset)
    }

    /// Finds the balance of an asset, or makes an empty one.
    #[inline]
    pub(crate) fn balance_or_new(&mut self, asset: AssetId) -> &mut Balance {
        let likely = usize::from(asset.get());
        if self.assets.get(likely) == Some(&number(asset)) {
            return self.near.get_mut(likely).expect("each asset here has its balance");
        }
        if self.place_of(asset).is_none() {
            self.insert(asset);
        }
        self.unlikely_mut(asset).expect("the balance was just found")
    }

    /// Returns the balances in the order of asset ids.
    #[inline]
    pub(crate) fn balances(&self) -> impl Iterator<Item = (AssetId, Balance)> + '_ {
        let near = self.assets.iter().zip(self.near);
        near.filter_map(|(&asset, balance)| {
            Some((AssetId::new(u16::try_from(asset).ok()?), balance))
        })
        .chain(self.far.iter().copied())
    }

    /// Reads both lines, and returns something of them.
    #[inline]
    pub(crate) fn touch(&self) -> u64 {
        let [first, ..] = self.near;
        self.sequence.wrapping_add(u64::from(first.available.is_zero()))
    }

    #[inline(never)]
    fn unlikely_mut(&mut self, asset: AssetId) -> Option<&mut Balance> {
        match self.place_of(asset)? {
            Place::Near(at) => self.near.get_mut(at),
            Place::Far(at) => self.far.get_mut(at).map(|(_, balance)| balance),
        }
    }

    #[inline(never)]
    fn place_of(&self, asset: AssetId) -> Option<Place> {
        let near = self.assets.iter().position(|&held| held == number(asset)).map(Place::Near);
        near.or_else(|| self.far.iter().position(|(held, _)| *held == asset).map(Place::Far))
    }

    /// Makes a balance of an asset that the account has not had yet.
    #[cold]
    fn insert(&mut self, asset: AssetId) {
        let (mut next, mut next_balance) = (number(asset), Balance::default());
        for (held, balance) in self.assets.iter_mut().zip(&mut self.near) {
            // What stands here and is behind it moves on.
            if next < *held {
                core::mem::swap(held, &mut next);
                core::mem::swap(balance, &mut next_balance);
            }
        }
        if let Ok(asset) = u16::try_from(next).map(AssetId::new) {
            let at = self.far.partition_point(|(held, _)| *held < asset);
            self.far.insert(at, (asset, next_balance));
        }
    }
}

/// No asset: beyond the id of any.
const VACANT: u32 = u32::MAX;

#[inline]
fn number(asset: AssetId) -> u32 {
    u32::from(asset.get())
}

/// Where a balance stands.
#[derive(Clone, Copy)]
enum Place {
    Near(usize),
    Far(usize),
}

#[cfg(test)]
mod tests {
    use units::Amount;

    use super::*;

    #[test]
    fn an_account_takes_two_cache_lines() {
        assert_eq!(size_of::<Account>(), 128);
    }

    #[test]
    fn balances_are_in_the_order_of_assets_whichever_came_first() {
        let orders = [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1], [1, 3, 0, 4, 2]];
        for assets in orders.map(|order| order.map(AssetId::new)) {
            let mut account = Account::new(AccountId::new(1000));
            for (count, asset) in assets.into_iter().enumerate() {
                assert_eq!(account.balance(asset), None);
                account.balance_or_new(asset).available = Amount::new(asset.get().into());
                let mut known = assets[..=count].to_vec();
                known.sort();
                assert!(account.balances().map(|(asset, _)| asset).eq(known.iter().copied()));
                for asset in known {
                    let balance = *account.balance(asset).expect("it was made");
                    assert_eq!(balance.available, Amount::new(asset.get().into()));
                    assert_eq!(account.balance_mut(asset).copied(), Some(balance));
                }
            }
        }
    }
}
