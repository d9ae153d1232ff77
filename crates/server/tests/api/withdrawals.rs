//! What may leave an account: listed destinations, days' limits, freezes; and races for all of it.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use units::Amount;

use crate::Case;
use crate::http::Reply;
use crate::signing::{Key, until};
use crate::world::{USD, User, World, config};

pub const CASES: &[Case] = &[
    ("money_leaves_to_listed_destinations", money_leaves_to_listed_destinations),
    (
        "a_user_chooses_to_send_to_listed_destinations",
        a_user_chooses_to_send_to_listed_destinations,
    ),
    ("a_key_sends_to_listed_destinations_alone", a_key_sends_to_listed_destinations_alone),
    ("a_frozen_account_lets_nothing_out", a_frozen_account_lets_nothing_out),
    ("two_servers_let_one_allowance_out_once", two_servers_let_one_allowance_out_once),
    (
        "a_hundred_withdrawals_of_everything_succeed_once",
        a_hundred_withdrawals_of_everything_succeed_once,
    ),
    ("transfers_in_a_ring_lose_nothing", transfers_in_a_ring_lose_nothing),
    ("one_key_is_one_withdrawal", one_key_is_one_withdrawal),
    ("bad_destinations_are_not_listed", bad_destinations_are_not_listed),
];

const UNIT: u128 = 10_000_000_000;
const ADDRESSES: &str = "/api/v1/wallet/addresses";
const WITHDRAW: &str = "/api/v1/wallet/withdraw";
const TRANSFER: &str = "/api/v1/wallet/transfer";

fn withdraw(user: &User, amount: &str, destination: &str) -> Reply {
    user.post(WITHDRAW, &json!({ "asset": "USD", "amount": amount, "destination": destination }))
}

fn list(user: &User, destination: &str) -> Reply {
    user.post(ADDRESSES, &json!({ "label": "mine", "destination": destination }))
}

/// Ends the cooling-off time of all that a user has listed.
fn cool(world: &World, user: &User) {
    world.change(
        "UPDATE withdrawal_addresses SET usable_at = created_at \
          WHERE user_id = (SELECT id FROM users WHERE email = $1)",
        user,
    );
}

fn money_leaves_to_listed_destinations(world: &World) {
    let mut strict = config();
    strict.withdrawals.must_be_listed = true;
    let (mut user, other) = (world.funded("100.00", "0"), world.user());
    user.address = world.serve(strict);
    let before = world.digest();
    assert_eq!(withdraw(&user, "1.00", "bank").problem(422), "destination_unlisted");
    let listed = list(&user, "bank").expect(201);
    assert!(listed["usableAt"].as_str() > listed["createdAt"].as_str(), "{listed}");
    assert_eq!(list(&user, "bank").problem(409), "address_known");
    assert_eq!(withdraw(&user, "1.00", "bank").problem(422), "destination_cooling_off");
    let transfer = json!({ "asset": "USD", "amount": "1.00", "to": other.wallet });
    assert_eq!(user.post(TRANSFER, &transfer).problem(422), "destination_unlisted");
    assert_eq!(world.digest(), before);
    list(&user, &other.wallet.to_uppercase()).expect(201);
    cool(world, &user);
    withdraw(&user, "1.00", "bank").expect(201);
    user.post(TRANSFER, &transfer).expect(201);
    assert_eq!(withdraw(&user, "1.00", "bank2").problem(422), "destination_unlisted");
    // Taken off and listed again, it cools off again.
    let id = listed["id"].as_str().expect("an id");
    assert_eq!(user.delete(&format!("{ADDRESSES}/{id}")).status, 204);
    assert_eq!(user.delete(&format!("{ADDRESSES}/{id}")).problem(404), "not_found");
    assert_eq!(withdraw(&user, "1.00", "bank").problem(422), "destination_unlisted");
    list(&user, "bank").expect(201);
    assert_eq!(withdraw(&user, "1.00", "bank").problem(422), "destination_cooling_off");
    let all = user.get(ADDRESSES).expect(200);
    assert_eq!(
        (&all["onlyListed"], all["items"].as_array().map(Vec::len)),
        (&json!(true), Some(2))
    );
}

fn a_user_chooses_to_send_to_listed_destinations(world: &World) {
    let user = world.funded("100.00", "0");
    withdraw(&user, "1.00", "bank").expect(201);
    let set = |only: bool| user.send("PUT", ADDRESSES, &[], Some(&json!({ "onlyListed": only })));
    assert_eq!(set(true).expect(200)["onlyListed"], true);
    assert_eq!(withdraw(&user, "1.00", "bank").problem(422), "destination_unlisted");
    list(&user, "bank").expect(201);
    cool(world, &user);
    // Listing and choosing freeze nothing.
    withdraw(&user, "1.00", "bank").expect(201);
    assert_eq!(set(false).expect(200)["onlyListed"], false);
    assert_eq!(withdraw(&user, "1.00", "bank").problem(422), "withdrawal_frozen");
    assert_eq!(set(false).expect(200)["onlyListed"], false);
    assert_eq!(user.send("PUT", ADDRESSES, &[], Some(&json!({}))).problem(422), "value_invalid");
}

fn a_key_sends_to_listed_destinations_alone(world: &World) {
    let user = world.funded("100.00", "0");
    let key = Key::new(&user, &["withdraw"]);
    // A new key freezes them; this is about what comes after.
    world.change("UPDATE users SET withdrawals_frozen_until = NULL WHERE email = $1", &user);
    let body = json!({ "asset": "USD", "amount": "1.00", "destination": "bank" });
    assert_eq!(key.post(WITHDRAW, &body).problem(422), "destination_unlisted");
    list(&user, "bank").expect(201);
    assert_eq!(key.post(WITHDRAW, &body).problem(422), "destination_cooling_off");
    cool(world, &user);
    let made = key.post(WITHDRAW, &body).expect(201);
    let path = format!("{WITHDRAW}/{}", made["id"].as_str().expect("an id"));
    assert_eq!(key.send("DELETE", &path, None).expect(200)["state"], "cancelled");
    assert_eq!(key.get(&path).problem(403), "scope_missing");
}

fn a_frozen_account_lets_nothing_out(world: &World) {
    let (user, other) = (world.funded("100.00", "0"), world.user());
    let body = json!({ "asset": "USD", "amount": "5.00", "destination": "bank" });
    let keyed = || user.send("POST", WITHDRAW, &[("idempotency-key", "before")], Some(&body));
    let first = keyed().expect(201);
    let freeze = |until: &str| {
        let text = format!("UPDATE users SET withdrawals_frozen_until = {until} WHERE email = $1");
        world.change(&text, &user)
    };
    freeze("clock_timestamp() + interval '1 day'");
    let before = world.digest();
    let refused = withdraw(&user, "1.00", "bank");
    assert_eq!(refused.problem(422), "withdrawal_frozen");
    let detail = refused.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.contains("until"), "it says until when: {detail}");
    let transfer = json!({ "asset": "USD", "amount": "1.00", "to": other.wallet });
    assert_eq!(user.post(TRANSFER, &transfer).problem(422), "withdrawal_frozen");
    assert_eq!(keyed().expect(200)["id"], first["id"], "a repeat gets its first answer");
    assert_eq!(world.digest(), before);
    freeze("clock_timestamp() - interval '1 second'");
    withdraw(&user, "1.00", "bank").expect(201);
    user.post(TRANSFER, &transfer).expect(201);
}

fn two_servers_let_one_allowance_out_once(world: &World) {
    let mut limited = config();
    limited.withdrawals.daily_max = vec![("USD".to_owned(), "100".to_owned())];
    let servers = [world.serve(limited.clone()), world.serve(limited)];
    let (user, other) = (world.funded("1000.00", "0"), world.user());
    let at = |server: usize| User { address: servers[server % 2], ..user.clone() };
    assert_eq!(withdraw(&at(0), "100.01", "bank").problem(422), "withdrawal_limit");
    let statuses: Vec<u16> = thread::scope(|scope| {
        let send = |number: usize| {
            let (user, to) = (at(number), other.wallet.clone());
            scope.spawn(move || match number % 4 {
                3 => {
                    user.post(TRANSFER, &json!({ "asset": "USD", "amount": "10.00", "to": to }))
                        .status
                }
                _ => withdraw(&user, "10.00", "bank").status,
            })
        };
        let all: Vec<_> = (0..24).map(send).collect();
        all.into_iter().map(|one| one.join().expect("it is answered")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 10, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 201 | 422)), "{statuses:?}");
    let refused = withdraw(&at(0), "0.01", "bank");
    assert_eq!(refused.problem(422), "withdrawal_limit");
    assert_eq!(refused.json()["errors"][0]["nearest"], json!(["0.00"]));
    // What is given back may leave again.
    until("the projections show what has left", || {
        !user.get(WITHDRAW).expect(200)["items"][0].is_null()
    });
    let mine = user.get(WITHDRAW).expect(200);
    let id = mine["items"][0]["id"].as_str().expect("there is one").to_owned();
    user.delete(&format!("{WITHDRAW}/{id}")).expect(200);
    until("the projections show what was given back", || {
        withdraw(&at(1), "10.00", "bank").status == 201
    });
    assert_eq!(withdraw(&at(0), "0.01", "bank").problem(422), "withdrawal_limit");
    // Another asset has no limit here; another user has an own one.
    let unlimited = world.funded("50.00", "0");
    withdraw(&User { address: servers[0], ..unlimited }, "50.00", "bank").expect(201);
}

fn a_hundred_withdrawals_of_everything_succeed_once(world: &World) {
    let user = world.funded("100.00", "0");
    let second = world.serve(config());
    let statuses: Vec<u16> = thread::scope(|scope| {
        let send = |number: usize| {
            let address = [world.address, second][number % 2];
            let user = User { address, ..user.clone() };
            scope.spawn(move || withdraw(&user, "100.00", "bank").status)
        };
        let all: Vec<_> = (0..100).map(send).collect();
        all.into_iter().map(|one| one.join().expect("it is answered")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 201 | 422)), "{statuses:?}");
    let balance = world.balance(&user, USD);
    assert_eq!((balance.available, balance.held), (Amount::ZERO, Amount::new(100 * UNIT)));
}

fn transfers_in_a_ring_lose_nothing(world: &World) {
    const USERS: usize = 5;
    let users: Vec<User> = (0..USERS).map(|_| world.funded("10.00", "0")).collect();
    let statuses: Vec<u16> = thread::scope(|scope| {
        let users = &users;
        let run = |at: usize, step: usize| {
            scope.spawn(move || {
                let to = &users[(at + step) % USERS].wallet;
                let body = json!({ "asset": "USD", "amount": "3.00", "to": to });
                (0..8).map(|_| users[at].post(TRANSFER, &body).status).collect::<Vec<_>>()
            })
        };
        // Both ways round at once: who locks two accounts in an order of its own would lock up here.
        let all: Vec<_> = (0..USERS).flat_map(|at| [run(at, 1), run(at, USERS - 1)]).collect();
        all.into_iter().flat_map(|one| one.join().expect("it is answered")).collect()
    });
    assert!(statuses.iter().all(|status| matches!(status, 201 | 422)), "{statuses:?}");
    assert!(statuses.contains(&201), "{statuses:?}");
    let sum = users.iter().map(|user| world.balance(user, USD).total().get()).sum::<u128>();
    assert_eq!(sum, 10 * UNIT * USERS as u128);
}

fn one_key_is_one_withdrawal(world: &World) {
    let user = world.funded("100.00", "0");
    let send = |amount: &str, destination: &str| {
        let body = json!({ "asset": "USD", "amount": amount, "destination": destination });
        user.send("POST", WITHDRAW, &[("idempotency-key", "w-1")], Some(&body))
    };
    let bodies: Vec<Value> = thread::scope(|scope| {
        let all: Vec<_> = (0..12).map(|_| scope.spawn(|| send("10.00", "bank"))).collect();
        let replies = all.into_iter().map(|one| one.join().expect("it is answered"));
        replies
            .map(|reply| {
                assert!(matches!(reply.status, 200 | 201), "{} {}", reply.status, reply.text());
                reply.json()
            })
            .collect()
    });
    assert!(bodies.iter().all(|body| body["id"] == bodies[0]["id"]));
    assert_eq!(world.balance(&user, USD).held, Amount::new(10 * UNIT));
    assert_eq!(send("11.00", "bank").problem(422), "idempotency_key_reused");
    assert_eq!(send("10.00", "elsewhere").problem(422), "idempotency_key_reused");
    assert_eq!(world.balance(&user, USD).held, Amount::new(10 * UNIT));
}

fn bad_destinations_are_not_listed(world: &World) {
    let user = world.user();
    for (body, status) in [
        (json!({}), 422),
        (json!({ "label": "x" }), 422),
        (json!({ "label": "x", "destination": "" }), 422),
        (json!({ "label": "x", "destination": "a b" }), 422),
        (json!({ "label": "x", "destination": "a\u{0}" }), 422),
        (json!({ "label": "x", "destination": "x".repeat(129) }), 422),
        (json!({ "label": "", "destination": "x" }), 422),
        (json!({ "label": "x", "destination": 1 }), 400),
        (json!({ "label": "x", "destination": "x", "usableAt": "1970-01-01T00:00:00Z" }), 400),
    ] {
        assert_eq!(user.post(ADDRESSES, &body).status, status, "{body}");
    }
    for id in ["0", "x", "1%20OR%201=1"] {
        assert_eq!(user.delete(&format!("{ADDRESSES}/{id}")).problem(404), "not_found");
    }
    let owner = world.user();
    let listed = list(&owner, "bank").expect(201);
    let path = format!("{ADDRESSES}/{}", listed["id"].as_str().expect("an id"));
    assert_eq!(user.delete(&path).problem(404), "not_found", "another's");
    assert_eq!(user.get(ADDRESSES).expect(200)["items"], json!([]));
    assert_eq!(
        owner.get(ADDRESSES).expect(200)["coolingOffSeconds"],
        Duration::from_secs(86_400).as_secs()
    );
}
