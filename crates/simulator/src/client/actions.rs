//! What clients want.

use engine::{
    Action, AmendOrder, NewOrder, OrderRef, OrderType, SelfTradePrevention, Side, TimeInForce,
};
use units::{
    AccountId, Amount, AssetId, CommandId, MarketId, PriceTicks, QuantityLots, ReferenceHash, Time,
};

use crate::settings::{ACCOUNTS, BEGIN, S};
use crate::world::World;

const MARKET: MarketId = MarketId::new(0);

impl World {
    /// Chooses what a client wants next.
    pub(super) fn choose(&mut self, index: usize) -> Action {
        let account = self.clients[index].account;
        match self.rng.below(100) {
            0..68 => Action::PlaceOrder(self.order(account)),
            68..78 => match self.own_order(index) {
                Some(order) => Action::CancelOrder { account, order: OrderRef::Id(order) },
                None => Action::PlaceOrder(self.order(account)),
            },
            78..83 => match self.own_order(index) {
                Some(order) => {
                    let quantity = Some(QuantityLots::new(self.rng.between(1, 20)));
                    let order = OrderRef::Id(order);
                    Action::AmendOrder(AmendOrder { account, order, price: None, quantity })
                }
                None => Action::PlaceOrder(self.order(account)),
            },
            83..85 => Action::CancelAll { account, market: None },
            85..90 => Action::Deposit {
                account,
                asset: self.asset(),
                amount: Amount::new(u128::from(self.rng.between(1, 500))),
                reference: ReferenceHash::new(self.rng.wide()),
                sandbox: true,
            },
            90..95 => {
                let other = AccountId::FIRST_CUSTOMER.get() + self.rng.below(ACCOUNTS);
                let amount = Amount::new(u128::from(self.rng.between(1, 200)));
                let to = AccountId::new(other);
                Action::Transfer { from: account, to, asset: self.asset(), amount }
            }
            95..98 => Action::RequestWithdrawal {
                account,
                asset: self.asset(),
                amount: Amount::new(u128::from(self.rng.between(1, 100))),
                destination: ReferenceHash::new(7),
            },
            _ => match self.clients[index].withdrawals.last().copied() {
                Some(withdrawal) => Action::CancelWithdrawal { account, withdrawal },
                None => Action::PlaceOrder(self.order(account)),
            },
        }
    }

    fn asset(&mut self) -> AssetId {
        AssetId::new(u16::from(self.rng.chance(500)))
    }

    fn own_order(&mut self, index: usize) -> Option<CommandId> {
        let orders = &self.clients[index].orders;
        let newest = orders.len().min(6);
        (newest > 0).then(|| orders[orders.len() - 1 - self.rng.place(newest)])
    }

    fn order(&mut self, account: AccountId) -> NewOrder {
        let side = if self.rng.chance(500) { Side::Buy } else { Side::Sell };
        let is_market = self.rng.chance(150);
        let price = PriceTicks::new(self.rng.between(95, 105)).expect("it is above zero");
        let ends = Time::from_micros(BEGIN + self.now + self.rng.between(S, 12 * S));
        let time_in_force = match self.rng.below(10) {
            _ if is_market => TimeInForce::Ioc,
            0 => TimeInForce::Ioc,
            1 => TimeInForce::Fok,
            2 => TimeInForce::Gtd(ends),
            _ => TimeInForce::Gtc,
        };
        NewOrder {
            account,
            market: MARKET,
            side,
            order_type: if is_market { OrderType::Market } else { OrderType::Limit },
            time_in_force,
            post_only: false,
            price: (!is_market).then_some(price),
            quantity: QuantityLots::new(self.rng.between(1, 20)),
            quote_amount: None,
            trigger: None,
            display: None,
            self_trade_prevention: SelfTradePrevention::CancelOldest,
            client_order_id: None,
        }
    }
}

/// An action in a few words.
pub(super) fn words(action: &Action) -> String {
    match action {
        Action::PlaceOrder(order) => format!(
            "{:?} {} at {:?}, {:?}",
            order.side, order.quantity, order.price, order.time_in_force
        ),
        other => format!("{other:?}"),
    }
}
