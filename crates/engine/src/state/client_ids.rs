//! Client order ids: unique among an account's open orders and those closed within the window.

use std::collections::VecDeque;

use hashbrown::HashTable;
use units::{AccountId, CommandId, Time, mix, mix_bytes};

use crate::command::ClientOrderId;

/// One client order id in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientEntry {
    pub(crate) account: AccountId,
    pub(crate) client_order_id: ClientOrderId,
    pub(crate) order: CommandId,
    pub(crate) body_hash: u64,
}

/// All client order ids in use.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientIds {
    table: HashTable<ClientEntry>,
    /// Those whose order is closed, in the order of closing.
    closed: VecDeque<(Time, AccountId, ClientOrderId)>,
    salt: u64,
}

impl ClientIds {
    pub(crate) fn new(salt: u64) -> Self {
        Self { salt, ..Self::default() }
    }

    pub(crate) fn get(&self, account: AccountId, id: &ClientOrderId) -> Option<&ClientEntry> {
        self.table.find(self.hash(account, id), |entry| {
            entry.account == account && entry.client_order_id == *id
        })
    }

    pub(crate) fn insert(&mut self, entry: ClientEntry) {
        let salt = self.salt;
        let hash = hash(entry.account, &entry.client_order_id, salt);
        self.table.insert_unique(hash, entry, |entry| {
            self::hash(entry.account, &entry.client_order_id, salt)
        });
    }

    /// Begins the window of an id whose order is closed.
    pub(crate) fn close(&mut self, account: AccountId, id: ClientOrderId, now: Time) {
        self.closed.push_back((now, account, id));
    }

    pub(crate) fn forget(&mut self, now: Time, micros: u64) {
        while self.closed.front().is_some_and(|(at, ..)| now.micros_since(*at) > micros) {
            let (_, account, id) = self.closed.pop_front().expect("the front was just seen");
            let hash = self.hash(account, &id);
            let entry = self
                .table
                .find_entry(hash, |entry| entry.account == account && entry.client_order_id == id);
            entry.expect("a closed id is in the table until it is forgotten").remove();
        }
    }

    /// The closed ones, oldest first.
    pub(crate) fn closed(&self) -> impl Iterator<Item = (Time, &ClientEntry)> {
        self.closed.iter().map(|(at, account, id)| {
            (
                *at,
                self.get(*account, id).expect("a closed id is in the table until it is forgotten"),
            )
        })
    }

    fn hash(&self, account: AccountId, id: &ClientOrderId) -> u64 {
        hash(account, id, self.salt)
    }
}

fn hash(account: AccountId, id: &ClientOrderId, salt: u64) -> u64 {
    mix(account.get() ^ mix_bytes(id.as_str().as_bytes(), salt), salt)
}
