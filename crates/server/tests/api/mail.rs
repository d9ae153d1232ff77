//! The outbox: mail is sent though a server is away for a while, once, and none holds up another.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use server::mail::{Inbox, Mail, MailError, Mailer};
use server::{Parts, ServerConfig};
use store::Db;
use tokio_util::sync::CancellationToken;

use crate::Case;
use crate::accounts::post;
use crate::http;
use crate::world::{PASSWORD, World, config};

pub const CASES: &[Case] = &[
    ("mail_waits_while_its_server_is_away", mail_waits_while_its_server_is_away),
    ("one_mail_holds_up_no_other", one_mail_holds_up_no_other),
    (
        "a_mail_server_that_is_away_is_left_alone_and_used_again",
        a_mail_server_that_is_away_is_left_alone_and_used_again,
    ),
    ("servers_share_an_outbox_and_send_each_mail_once", servers_share_an_outbox),
    ("the_inbox_shows_what_maildev_would", the_inbox_shows_what_maildev_would),
];

/// A mail server that refuses some recipients, does not take others at first, and may be away as a whole.
#[derive(Default)]
struct Fickle {
    /// How often it still does not take a recipient.
    away: Mutex<HashMap<String, u32>>,
    /// Whether it cannot be reached at all.
    gone: AtomicBool,
    /// How often it was called.
    calls: AtomicUsize,
    refused: Mutex<Vec<String>>,
    inbox: Inbox,
}

#[async_trait]
impl Mailer for Fickle {
    async fn send(&self, mail: Mail) -> Result<(), MailError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.gone.load(Ordering::SeqCst) {
            return Err(MailError::Unavailable("connection refused".to_owned()));
        }
        if self.refused.lock().contains(&mail.to) {
            return Err(MailError::Refused("550 no such user".to_owned()));
        }
        if let Some(times) = self.away.lock().get_mut(&mail.to).filter(|times| **times > 0) {
            *times -= 1;
            return Err(MailError::Deferred("450 not now".to_owned()));
        }
        self.inbox.send(mail).await
    }
}

fn serve(
    world: &World,
    config: ServerConfig,
    db: &Db,
    mailer: Arc<dyn Mailer>,
    stop: &CancellationToken,
) -> SocketAddr {
    let parts = Parts { db: db.clone(), mailer, ..world.parts(config) };
    world.serve_parts(parts, stop.clone()).0
}

fn register(address: SocketAddr, email: &str) {
    let body = json!({ "email": email, "password": PASSWORD });
    post(address, "/api/v1/auth/register", &[], &body).expect(201);
}

fn mails_to(inbox: &Inbox, email: &str) -> Vec<Mail> {
    let mails = inbox.mails().into_iter().map(|received| received.mail);
    mails.filter(|mail| mail.to == email).collect()
}

fn count(world: &World, db: &Db, text: &str) -> i64 {
    world.runtime.block_on(async {
        let client = db.get().await.expect("the database answers");
        client.query_one(text, &[]).await.expect("it is one row").get(0)
    })
}

fn mail_waits_while_its_server_is_away(world: &World) {
    let db = world.database("mail_waits");
    let mailer = Arc::new(Fickle::default());
    mailer.away.lock().insert("ann@example.com".to_owned(), 2);
    let stop = world.stop.child_token();
    let address = serve(world, config(), &db, Arc::<Fickle>::clone(&mailer), &stop);
    register(address, "ann@example.com");
    // What waits is not readable: the code is in none of its bytes, as text.
    let readable = "SELECT count(*) FROM mail_outbox WHERE position('code'::bytea IN content) > 0";
    assert_eq!(count(world, &db, readable), 0);
    let mail =
        world.wait("it is sent in the end", || mails_to(&mailer.inbox, "ann@example.com").pop());
    assert_eq!(mailer.away.lock()["ann@example.com"], 0);
    assert!(mail.text.contains("Your code is"), "{mail:?}");
    world.wait("what was sent is not kept", || {
        (count(world, &db, "SELECT count(*) FROM mail_outbox") == 0).then_some(())
    });
    stop.cancel();
}

fn one_mail_holds_up_no_other(world: &World) {
    let db = world.database("mail_holds");
    let mailer = Arc::new(Fickle::default());
    mailer.refused.lock().push("refused@example.com".to_owned());
    // Away for longer than this test takes.
    mailer.away.lock().insert("away@example.com".to_owned(), 1_000);
    let stop = world.stop.child_token();
    let address = serve(world, config(), &db, Arc::<Fickle>::clone(&mailer), &stop);
    for email in ["refused@example.com", "away@example.com", "bob@example.com"] {
        register(address, email);
    }
    world.wait("another's mail is sent", || mails_to(&mailer.inbox, "bob@example.com").pop());
    let aside =
        "SELECT count(*) FROM mail_outbox WHERE failed_at IS NOT NULL AND content = ''::bytea";
    world.wait("the refused one is set aside", || (count(world, &db, aside) == 1).then_some(()));
    // One whose content was damaged is set aside too, and the next is sent.
    let damage = "WITH damaged AS (UPDATE mail_outbox SET content = content || '\\x00'::bytea, \
                      next_attempt_at = clock_timestamp() WHERE recipient = 'away@example.com' RETURNING 1) \
                  SELECT count(*) FROM damaged";
    assert_eq!(count(world, &db, damage), 1);
    register(address, "eve@example.com");
    world.wait("the next one is sent", || mails_to(&mailer.inbox, "eve@example.com").pop());
    world.wait("the damaged one is set aside", || (count(world, &db, aside) == 2).then_some(()));
    stop.cancel();
}

fn a_mail_server_that_is_away_is_left_alone_and_used_again(world: &World) {
    let db = world.database("mail_gone");
    let mailer = Arc::new(Fickle::default());
    mailer.gone.store(true, Ordering::SeqCst);
    let stop = world.stop.child_token();
    let address = serve(world, config(), &db, Arc::<Fickle>::clone(&mailer), &stop);
    let email = |at: usize| format!("gone-{at}@example.com");
    (0..20).for_each(|at| register(address, &email(at)));
    let breaker = || {
        let trading = http::send(address, "GET", "/api/health/trading", &[], None).expect(200);
        trading["circuitBreakers"][0].clone()
    };
    world.wait("the breaker opens", || {
        (breaker() == json!({ "name": "mail", "state": "open" })).then_some(())
    });
    // Five bad calls open it, and each time that it is open ends, one call tries: not one for every mail.
    assert!(mailer.calls.load(Ordering::SeqCst) < 20, "{:?}", mailer.calls);
    let tried = "SELECT max(attempts)::bigint FROM mail_outbox";
    assert!(count(world, &db, tried) <= 5, "open, it uses up no tries");
    mailer.gone.store(false, Ordering::SeqCst);
    world.wait("all are sent in the end", || {
        (count(world, &db, "SELECT count(*) FROM mail_outbox") == 0).then_some(())
    });
    assert_eq!(breaker(), json!({ "name": "mail", "state": "closed" }));
    (0..20).for_each(|at| assert_eq!(mails_to(&mailer.inbox, &email(at)).len(), 1, "{at}"));
    stop.cancel();
}

fn servers_share_an_outbox(world: &World) {
    let db = world.database("mail_shared");
    let mailer = Arc::new(Fickle::default());
    let stop = world.stop.child_token();
    let servers: Vec<_> =
        (0..3).map(|_| serve(world, config(), &db, Arc::<Fickle>::clone(&mailer), &stop)).collect();
    let email = |at: usize| format!("shared-{at}@example.com");
    for at in 0..30 {
        register(servers[at % servers.len()], &email(at));
    }
    world.wait("all are sent", || {
        (count(world, &db, "SELECT count(*) FROM mail_outbox") == 0).then_some(())
    });
    for at in 0..30 {
        assert_eq!(mails_to(&mailer.inbox, &email(at)).len(), 1, "{at}");
    }
    stop.cancel();
}

fn the_inbox_shows_what_maildev_would(world: &World) {
    let email = world.fresh_email();
    world.register(&email);
    let code = world.code(&email);
    let inbox = world.serve_inbox();
    let listed = http::send(inbox, "GET", "/email", &[], None).expect(200);
    let mails = listed.as_array().expect("a list");
    let mail = mails.iter().find(|mail| mail["to"][0]["address"] == email.as_str());
    let mail = mail.expect("the mail is listed");
    for part in ["text", "html"] {
        assert!(mail[part].as_str().is_some_and(|text| text.contains(&code)), "{mail}");
    }
    let path = format!("/email/{}", mail["id"].as_str().expect("an id"));
    assert_eq!(&http::send(inbox, "GET", &path, &[], None).expect(200), mail);
    assert_eq!(http::send(inbox, "GET", "/email/999999999", &[], None).status, 404);
}
