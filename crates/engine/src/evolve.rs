//! Makes an event so. Decides nothing: what it cannot apply is a defect, and stops it.

mod money;
mod orders;
mod settle;
mod trading;

use ledger::AccountIndex;
use units::{AccountId, AssetId, CommandId, MarketId, OrderId, TradeId};

use crate::command::{Action, Command, Origin};
use crate::event::Event;
use crate::observe::Observer;
use crate::snapshot::seed;
use crate::state::{IdHash, Known, Market, State, Sweep};

/// Applies an event to the state. Decides nothing.
///
/// # Panics
///
/// When the event cannot have come from this state: every follower stops there, by design.
pub fn evolve(state: &mut State, command: &Command, event: &Event, observer: &mut impl Observer) {
    let mut evolver = Evolver { state, observer, reference: command.id };
    let placed = evolver.apply(command, event);
    // Not before the event is applied: genesis sets the salt.
    let hash = state.salt.hash(command.id);
    if let Some(at) = placed {
        state.order_ids.insert(hash, at);
    }
    if command.origin == Origin::Client {
        remember(state, command, hash);
    }
}

/// Remembers a command, so that it is never carried out again. By itself: in the midst of so much else, an entry
/// would be put together on the stack and wait there to be copied.
#[inline(never)]
fn remember(state: &mut State, command: &Command, hash: IdHash) {
    let (outcome, time) = (state.sequence, state.time);
    let known = Known { id: command.id, body_hash: command.body_hash, outcome, time };
    state.known.push(hash, known);
}

/// How far ids move ahead in a restored journal: beyond whatever the lost rows gave away.
const RESTORED_IDS_AHEAD: u64 = 1_000_000_000;

fn ahead(id: u64) -> u64 {
    id.checked_add(RESTORED_IDS_AHEAD).expect("ids fit 64 bits")
}

/// The state while an event is applied, and who follows.
struct Evolver<'a, O> {
    state: &'a mut State,
    observer: &'a mut O,
    /// What ledger entries refer to: the command, or the order it is about.
    reference: CommandId,
}

impl<O: Observer> Evolver<'_, O> {
    /// Applies an event to all but the tables of ids. Returns where a new order stands that stays open.
    #[inline]
    fn apply(&mut self, command: &Command, event: &Event) -> Option<(MarketId, u32)> {
        let account = self.count_rate(&command.action);
        match event {
            Event::Rejected(_) => {}
            Event::Done => self.done(&command.action),
            Event::OrderPlaced(placed) => return self.order_placed(command, placed, account),
            Event::OrderCancelled { market, order, reason } => {
                self.cancel_order(*market, *order, *reason);
            }
            Event::CancelRemembered => self.remember_cancel(command),
            Event::OrdersCancelled { orders, more } => {
                self.cancel_orders(&command.action, orders, *more);
            }
            Event::OrderReduced { market, order, quantity } => {
                self.reduce_order(*market, *order, *quantity);
            }
            Event::OrderReplaced { market, order, quantity, placed } => {
                self.replace_order(*market, *order, *quantity, placed);
            }
            Event::StopTriggered { market, order, placed } => {
                self.trigger_stop(*market, *order, placed);
            }
        }
        None
    }

    fn done(&mut self, action: &Action) {
        match action {
            Action::Genesis(settings) => {
                seed(self.state, Some(*settings));
                self.state.open_account(AccountId::FEES);
                self.observer.account(AccountId::FEES);
            }
            Action::Tick => {}
            Action::SetLimits(limits) => self.state.limits = *limits,
            Action::DefineAsset(config) => {
                let assets = &mut self.state.assets;
                let at = assets.iter().position(|known| known.symbol == config.symbol);
                let at = at.unwrap_or(assets.len());
                if let Some(known) = assets.get_mut(at) {
                    *known = config.clone();
                } else {
                    assets.push(config.clone());
                }
                self.observer.asset(AssetId::new(u16::try_from(at).expect("assets fit 16 bits")));
            }
            Action::DefineMarket(config) => {
                let markets = &mut self.state.markets;
                let at = markets.iter().position(|known| known.config.symbol == config.symbol);
                let at = at.unwrap_or(markets.len());
                let id = MarketId::new(u16::try_from(at).expect("markets fit 16 bits"));
                if let Some(known) = markets.get_mut(at) {
                    known.config = config.clone();
                    known.note_rules();
                } else {
                    markets.push(Market::new(id, config.clone()));
                }
                self.observer.market(id);
            }
            Action::SetMarketState { market, state } => self.set_market_state(*market, *state),
            Action::HaltMarket { market } => {
                self.set_market_state(*market, crate::MarketState::Halted);
            }
            Action::Restore { incarnation, .. } => self.restore(*incarnation),
            Action::NoteAuditHead(head) => self.state.audit_head = Some(*head),
            action => self.move_money(action),
        }
    }

    /// Begins another journal on the same state. Ids that the lost rows gave away are not given again.
    fn restore(&mut self, incarnation: u64) {
        let settings = self.state.settings.as_mut().expect("a restored journal has its settings");
        settings.incarnation = incarnation;
        for market in &mut self.state.markets {
            market.last_order_id = OrderId::new(ahead(market.last_order_id.get()));
            market.last_trade_id = TradeId::new(ahead(market.last_trade_id.get()));
        }
    }

    fn set_market_state(&mut self, id: MarketId, state: crate::MarketState) {
        let market = self.state.market_mut(id);
        market.state = state;
        market.halt_due = false;
        if state == crate::MarketState::Open {
            let reference = market.reference;
            market.trades.rebase(reference);
        }
        self.observer.market(id);
    }

    /// Order commands count against the account's rate whatever comes of them. Returns that account.
    #[inline]
    fn count_rate(&mut self, action: &Action) -> Option<AccountIndex> {
        let account = match action {
            Action::PlaceOrder(order) => order.account,
            Action::AmendOrder(amend) => amend.account,
            _ => return None,
        };
        let index = self.state.ledger.find(account)?;
        let now = self.state.time;
        self.state.info_mut(index).count_command(now);
        Some(index)
    }

    fn remember_cancel(&mut self, command: &Command) {
        let Action::CancelOrder { account, order: crate::OrderRef::Id(order) } = command.action
        else {
            panic!("only a cancel by id is remembered");
        };
        self.state.remembered.insert(order, (account, command.expires_at));
        self.state.remembered_expiries.insert((command.expires_at, order));
    }

    fn cancel_orders(&mut self, action: &Action, orders: &[(MarketId, CommandId)], more: bool) {
        let Action::CancelAll { account, market } = *action else {
            panic!("only a cancel-all cancels many");
        };
        for &(market, order) in orders {
            self.cancel_order(market, order, crate::CancelReason::Requested);
        }
        if more {
            let before_arrival = self.state.arrivals.saturating_add(1);
            self.state.sweeps.push_back(Sweep { account, market, before_arrival });
        }
    }

    /// Tells of an account's balance after a change of it.
    fn tell_balance(&mut self, account: AccountIndex, asset: AssetId) {
        let sequence = self.state.ledger.count_changes(account, 1);
        if !O::FOLLOWS {
            return;
        }
        let balance = self.state.ledger.balance(account, asset);
        self.observer.balance(self.state.ledger.id(account), asset, balance, sequence);
    }
}
