//! Reads ahead: what a batch's commands will need is fetched before the first of them is carried out.

use std::hint::black_box;

use super::State;
use crate::command::{Action, Command, OrderRef};

impl State {
    /// Reads what the commands of a batch will read first, one kind of thing after the other, so that the waits for
    /// memory overlap which would otherwise stand in each command's way: the memory of known commands, accounts with
    /// their balances, orders with their places in the book. Changes nothing, and nothing follows from it.
    pub fn warm<'a>(&self, commands: impl Iterator<Item = &'a Command> + Clone) {
        let known = commands.clone().map(|command| self.touch_id(command));
        black_box(known.fold(0, u64::wrapping_add));
        let accounts = commands.clone().map(|command| self.touch_account(&command.action));
        black_box(accounts.fold(0, u64::wrapping_add));
        let orders = commands.map(|command| self.touch_order(&command.action));
        black_box(orders.fold(0, u64::wrapping_add));
    }

    #[inline]
    fn touch_account(&self, action: &Action) -> u64 {
        let (Action::PlaceOrder(crate::NewOrder { account, .. })
        | Action::CancelOrder { account, .. }) = action
        else {
            return 0;
        };
        let Some(index) = self.ledger.find(*account) else { return 0 };
        self.ledger.touch(index).wrapping_add(self.info(index).touch())
    }

    #[inline]
    fn touch_id(&self, command: &Command) -> u64 {
        let place = match command.action {
            Action::PlaceOrder(_) => self.order_ids.touch(self.salt.hash(command.id)),
            _ => 0,
        };
        u64::from(place).wrapping_add(u64::from(self.known.touch(command.id)))
    }

    #[inline]
    fn touch_order(&self, action: &Action) -> u64 {
        match action {
            Action::PlaceOrder(order) => {
                let market = self.find_market(order.market);
                let level = market.zip(order.price);
                level.map_or(0, |(market, price)| market.book.touch_level(order.side, price))
            }
            Action::CancelOrder { order: OrderRef::Id(id), .. } => {
                let Some((market, slot)) = self.find_order(*id) else { return 0 };
                let order = market.orders.get(slot);
                let place = u64::from(order.own_place).wrapping_add(market.book.touch(slot));
                order.created_in.get().wrapping_add(place)
            }
            _ => 0,
        }
    }
}
