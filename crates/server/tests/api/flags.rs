//! What the core knows of users: locks and closings, whoever says so and however many at once.

use std::thread;

use engine::{AccountFlags, Action, Command, Origin};
use serde_json::json;
use store::audit::{AuditEntry, Level};
use store::roles::{self, Change, Role};
use uuid::Uuid;

use crate::Case;
use crate::signing::until;
use crate::world::{PASSWORD, User, World, config};

pub const CASES: &[Case] = &[
    (
        "the_core_hears_of_every_lock_and_keeps_the_other_flags",
        the_core_hears_of_every_lock_and_keeps_the_other_flags,
    ),
    ("nobody_undoes_what_somebody_else_sets", nobody_undoes_what_somebody_else_sets),
];

const ADMIN: &str = "/api/v1/admin";

/// Sends a command that no route sends.
fn send(world: &World, action: Action) {
    let command = Command {
        id: wire::id::from_uuid(Uuid::now_v7()),
        body_hash: 0,
        expires_at: world.live.journal_now().plus_micros(15_000_000),
        trace_id: 1,
        origin: Origin::Client,
        action,
    };
    let (incarnation, seen) = (world.live.incarnation(), world.live.sequence());
    let message = journal::Message { incarnation, seen, command };
    let publisher = world.parts(config()).publisher;
    world.runtime.block_on(publisher.publish(message.encode().into(), 1));
}

fn count(world: &World, rows: &str) -> i64 {
    world.sql(&format!("SELECT count(*) FROM {rows}"), &[])
}

/// A lock that was not told (from the command line, or by a server that died) is, and takes no other flag back.
fn the_core_hears_of_every_lock_and_keeps_the_other_flags(world: &World) {
    let user = world.user();
    let flags = || world.live.read(|state| state.account(user.account).map(|found| found.flags));
    let frozen = AccountFlags { withdrawals_frozen: true, ..AccountFlags::default() };
    send(world, Action::SetAccountFlags { account: user.account, flags: frozen });
    until("the core has frozen it", || flags() == Some(frozen));
    let entry = |action| AuditEntry {
        level: Level::Warn,
        action,
        user: None,
        address: None,
        trace_id: 0,
        detail: json!({ "by": "command line" }),
    };
    let id: Uuid = world.id_of(&user).parse().expect("an id");
    let change = |lock: bool| {
        world.runtime.block_on(async {
            if lock {
                roles::lock(&world.db, id, Role::Admin, entry("admin.lock")).await
            } else {
                roles::unlock(&world.db, id, Role::Admin, entry("admin.unlock")).await
            }
        })
    };
    assert_eq!(change(true).expect("the database answers"), Change::Done);
    until("the core knows the lock", || flags() == Some(AccountFlags { locked: true, ..frozen }));
    assert_eq!(change(false).expect("the database answers"), Change::Done);
    until("the core knows that it is over", || flags() == Some(frozen));
    until("nothing is due any more", || count(world, "users WHERE flags_due_at IS NOT NULL") == 0);
}

/// Locks and unlocks by several operators on several servers while the account closes: each flag ends as it was set last.
fn nobody_undoes_what_somebody_else_sets(world: &World) {
    let (one, two) = (world.staff("operator"), world.staff("operator"));
    let two = User { address: world.serve(config()), ..two };
    for _ in 0..3 {
        let user = world.user();
        let path = |what: &str| format!("{ADMIN}/users/{}/{what}", world.id_of(&user));
        let (lock, unlock) = (path("lock"), path("unlock"));
        let close = json!({ "password": PASSWORD });
        let closed = thread::scope(|scope| {
            let close = scope.spawn(|| user.post("/api/v1/account/close", &close).status);
            for (operator, path) in [(&one, &lock), (&two, &unlock), (&two, &lock), (&one, &unlock)]
            {
                scope.spawn(move || operator.post(path, &json!({})));
            }
            close.join().expect("it is answered")
        });
        let flags =
            || world.live.read(|state| state.account(user.account).map(|found| found.flags));
        if closed == 204 {
            until("it stays closed", || {
                count(world, "users WHERE flags_due_at IS NOT NULL") == 0
                    && flags().is_some_and(|flags| flags.closed)
            });
        } else {
            // A lock came first. Whatever was said last of it holds.
            let id = world.id_of(&user);
            let row = format!("users WHERE id = '{id}' AND locked_at IS NOT NULL");
            until("the core says what the row says", || {
                count(world, "users WHERE flags_due_at IS NOT NULL") == 0
                    && flags().is_some_and(|flags| flags.locked == (count(world, &row) == 1))
            });
        }
    }
}
