//! The books.

use super::{Act, Scene, critical};
use crate::proxy::Mode;

/// Balances of users who do nothing: nobody writes them meanwhile.
pub(super) const TAMPERED: Act = Act {
    what: "a projected balance changed by hand and another made negative, past its check; and changed back",
    alerts: &[critical("ProjectionDiffers"), critical("NegativeAccount")],
    begin: |scene| {
        scene.add_to_balance(2, "1");
        scene.alter_balances("DROP CONSTRAINT balances_available_check");
        scene.props.before = scene.run.stand.psql().value(&scene.balance(3, "available"));
        scene.add_to_balance(3, &format!("- {} - 1", scene.props.before));
    },
    end: |scene| {
        scene.add_to_balance(2, "- 1");
        scene.add_to_balance(3, &format!("{} + 1", scene.props.before));
        scene.alter_balances("ADD CONSTRAINT balances_available_check CHECK (available >= 0)");
    },
};

pub(super) const BROKEN_ROW: Act = Act {
    what: "a bit of the journal's newest row changed before one server has read it; and changed back",
    alerts: &[critical("JournalBreak"), critical("FollowerStopped")],
    begin: |scene| {
        let ways = |scene: &Scene<'_, '_>, broker, database| {
            scene.run.stand.servers[1].broker.set(broker);
            scene.run.stand.servers[1].database.set(database);
        };
        ways(scene, Mode::Cut, Mode::Hole);
        // Some rows that it hears nothing of.
        scene.run.wait_orders(&scene.load, 20);
        let newest = "SELECT max(sequence) FROM journal";
        scene.props.before = scene.run.stand.psql().value(newest);
        scene.turn_bit();
        ways(scene, Mode::Open, Mode::Open);
    },
    end: |scene| {
        scene.turn_bit();
        scene.run.stand.servers[1].restart();
    },
};

impl Scene<'_, '_> {
    /// A user's first balance.
    fn balance(&self, user: usize, column: &str) -> String {
        let account = self.run.stand.own_users[user].account;
        format!(
            "SELECT {column} FROM balances WHERE account_id = {account} ORDER BY asset_id LIMIT 1"
        )
    }

    /// Alters the table behind the view.
    fn alter_balances(&self, what: &str) {
        let schema = "SELECT table_schema FROM information_schema.view_table_usage \
             WHERE view_schema = 'public' AND view_name = 'balances'";
        let schema = self.run.stand.psql().value(schema);
        self.change(&format!("ALTER TABLE {schema}.balances {what}"));
    }

    fn add_to_balance(&self, user: usize, more: &str) {
        let account = self.run.stand.own_users[user].account;
        let asset = self.balance(user, "asset_id");
        self.tamper(&format!(
            "UPDATE balances SET available = available + {more} WHERE account_id = {account} AND asset_id = ({asset})"
        ));
    }

    /// Turns a bit of the row that is noted, or turns it back.
    fn turn_bit(&self) {
        self.tamper(&format!(
            "UPDATE journal SET payload = set_bit(payload, 77, 1 - get_bit(payload, 77)) WHERE sequence = {}",
            self.props.before
        ));
    }
}
