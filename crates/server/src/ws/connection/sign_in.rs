//! Showing an access token or a key on a connection, and whether it still holds.

use uuid::Uuid;

use super::Connection;
use crate::edge::{Auth, Context};
use crate::keys::{self, Claim, Scopes};
use crate::token::{ACCESS_SECONDS, BadToken, Principal};
use crate::ws::message::Message;

/// Who has shown a token or a key.
pub(super) struct SignedIn {
    pub(super) principal: Principal,
    with: Credential,
}

/// What was shown.
enum Credential {
    Token(String),
    /// The key's id.
    Key(Uuid),
}

impl Connection {
    /// Ends the private channels of a token whose time is over or whose session was revoked, and of a key that has ended.
    pub(super) async fn recheck(&mut self) {
        let Some(signed_in) = &self.signed_in else { return };
        let holds = match &signed_in.with {
            Credential::Token(token) => matches!(self.app.authenticate(token), Auth::User(_)),
            Credential::Key(key) => keys::is_good(&self.app, *key).await,
        };
        if !holds {
            self.close_own();
            self.signed_in = None;
            self.send(&Message::AuthExpired {});
        }
    }

    pub(super) fn auth(&mut self, id: Option<u64>, token: String) {
        let principal = match self.app.authenticate(&token) {
            Auth::User(principal) => principal,
            Auth::Refused(BadToken::Expired) => {
                let message = "the access token has expired".to_owned();
                return self.refuse(id, "token_expired", message, None);
            }
            Auth::Refused(BadToken::Invalid) | Auth::Anonymous | Auth::Key(_) => {
                let Context { address, trace_id, .. } = self.context;
                self.app.audit.refused(address, "/ws", 401, trace_id);
                let message = "a valid access token is needed".to_owned();
                return self.refuse(id, "unauthenticated", message, None);
            }
        };
        self.sign_in(SignedIn { principal, with: Credential::Token(token) });
        self.say_signed_in(id, "auth", Some(ACCESS_SECONDS));
    }

    pub(super) async fn auth_key(&mut self, id: Option<u64>, claim: Claim<'_>) {
        let Context { address, trace_id, .. } = self.context;
        let key = match keys::authenticate_socket(&self.app, address, claim).await {
            Ok(key) if key.scopes.contains(Scopes::READ) => key,
            Ok(_) => {
                let message = "the key needs the scope read".to_owned();
                return self.refuse(id, "scope_missing", message, None);
            }
            Err(problem) => {
                let code = problem.code();
                self.app.audit.refused(address, "/ws", code.status().as_u16(), trace_id);
                return self.refuse(id, code.name(), code.title().to_owned(), None);
            }
        };
        self.sign_in(SignedIn { principal: key.principal, with: Credential::Key(key.key) });
        self.say_signed_in(id, "authKey", None);
    }

    fn sign_in(&mut self, signed_in: SignedIn) {
        let account = signed_in.principal.account;
        if self.signed_in.as_ref().is_some_and(|known| known.principal.account != account) {
            self.close_own();
        }
        self.signed_in = Some(signed_in);
    }

    fn say_signed_in(&self, id: Option<u64>, op: &'static str, expires_in_seconds: Option<u64>) {
        self.send(&Message::Ok {
            id,
            op,
            channels: Vec::new(),
            incarnation: Some(format!("{:x}", self.data.live().incarnation())),
            expires_in_seconds,
        });
    }
}
