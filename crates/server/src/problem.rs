//! What goes wrong, as RFC 9457 problem details.
//!
//! Invariant: every refusal has one [`Code`], the catalogue says its status and title once, and the text that a client
//! sees never carries an error of the database, the queue or the program.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::Reject;
use serde::Serialize;
use utoipa::ToSchema;
use wire::order::FieldError;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $status:ident, $name:literal, $title:literal;)+) => {
        /// What can go wrong at the edge. Refusals of the core have their own codes: [`Code::Refused`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $title] $variant,)+
            /// The core has refused it.
            Refused(Reject),
        }

        impl Code {
            /// Every code of the edge; the core's are [`Reject::ALL`].
            pub const EDGE: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the status that it is answered with.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self {
                    $(Self::$variant => StatusCode::$status,)+
                    Self::Refused(reject) => refusal_status(reject),
                }
            }

            /// Returns the stable name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                    Self::Refused(reject) => reject.code(),
                }
            }

            /// Returns one sentence for people.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $title,)+
                    Self::Refused(reject) => refusal_title(reject),
                }
            }
        }
    };
}

codes! {
    BodyMalformed = BAD_REQUEST, "body_malformed", "The body is not the JSON that this route takes.";
    QueryMalformed = BAD_REQUEST, "query_malformed", "The query has an unknown or malformed parameter.";
    HeaderMalformed = BAD_REQUEST, "header_malformed", "A header cannot be read.";
    Unauthenticated = UNAUTHORIZED, "unauthenticated", "A valid access token is needed.";
    TokenExpired = UNAUTHORIZED, "token_expired", "The access token has expired.";
    CredentialsInvalid = UNAUTHORIZED, "credentials_invalid", "The e-mail address or the password is wrong.";
    KeyInvalid = UNAUTHORIZED, "key_invalid", "The key is unknown or has ended, or the signature is wrong.";
    TimestampInvalid = UNAUTHORIZED, "timestamp_invalid", "The request was signed too long ago, or in the future.";
    Replayed = UNAUTHORIZED, "replayed", "This very request was received before.";
    KeyAddress = FORBIDDEN, "key_address", "The key may not be used from this address.";
    ScopeMissing = FORBIDDEN, "scope_missing", "The key may not do this.";
    SessionNeeded = FORBIDDEN, "session_needed", "No key may do this: log in.";
    RoleMissing = FORBIDDEN, "role_missing", "This is for the exchange's own people.";
    TwoFactorNeeded = FORBIDDEN, "two_factor_needed", "Two-factor authentication must be on for this.";
    OwnRequest = FORBIDDEN, "own_request", "Somebody else must decide this.";
    RoleAbove = FORBIDDEN, "role_above", "Only who stands above this user may do this.";
    RefreshInvalid = UNAUTHORIZED, "refresh_invalid", "The refresh token is unknown, used or expired.";
    SecondFactorRequired = UNAUTHORIZED, "second_factor_required", "A code of your second factor is needed too.";
    SecondFactorInvalid = UNAUTHORIZED, "second_factor_invalid", "The code of the second factor is wrong, or was used.";
    SecondStepInvalid = UNAUTHORIZED, "second_step_invalid", "This login is over: begin it anew.";
    ResetInvalid = UNAUTHORIZED, "reset_invalid", "The reset token is unknown, used or expired.";
    CodeInvalid = UNPROCESSABLE_ENTITY, "code_invalid", "The verification code is wrong, used or expired.";
    NotVerified = FORBIDDEN, "not_verified", "The e-mail address has not been verified.";
    OriginForbidden = FORBIDDEN, "origin_forbidden", "Cookies are not taken from another site.";
    NotFound = NOT_FOUND, "not_found", "There is no such thing, or it is not yours.";
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method_not_allowed", "This path does not take this method.";
    RequestTimeout = REQUEST_TIMEOUT, "request_timeout", "The body did not arrive in time.";
    EmailTaken = CONFLICT, "email_taken", "There is an account with this e-mail address.";
    AddressKnown = CONFLICT, "address_known", "The destination is listed already.";
    LastAdmin = CONFLICT, "last_admin", "Nobody would be left to give roles.";
    TwoFactorState = CONFLICT, "two_factor_state", "The second factor is not in a state that allows this.";
    InProgress = CONFLICT, "in_progress", "The first request with this key is still being carried out.";
    OtherJournal = CONFLICT, "other_journal", "The sequence is one of another journal: read again without it.";
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body_too_large", "The body is larger than 64 KiB.";
    TypeUnsupported = UNSUPPORTED_MEDIA_TYPE, "type_unsupported", "The body must be application/json in UTF-8.";
    ValueInvalid = UNPROCESSABLE_ENTITY, "value_invalid", "A value breaks a rule.";
    TooManyKeys = UNPROCESSABLE_ENTITY, "too_many_keys", "A user may have 20 keys: revoke one first.";
    TooManyAddresses = UNPROCESSABLE_ENTITY, "too_many_addresses", "A user may list 100 destinations.";
    DestinationUnlisted = UNPROCESSABLE_ENTITY, "destination_unlisted", "The destination must be listed first.";
    DestinationCoolingOff = UNPROCESSABLE_ENTITY, "destination_cooling_off", "The destination was listed too short a while ago.";
    WithdrawalLimit = UNPROCESSABLE_ENTITY, "withdrawal_limit", "This is more than may leave in 24 hours.";
    KeyReused = UNPROCESSABLE_ENTITY, "idempotency_key_reused", "The key was used with another body.";
    TooManyRequests = TOO_MANY_REQUESTS, "too_many_requests", "Too many requests.";
    TooManyAttempts = TOO_MANY_REQUESTS, "too_many_attempts", "Too many attempts: wait, then try again.";
    Defect = INTERNAL_SERVER_ERROR, "defect", "A defect of ours. It has been logged under the trace id.";
    Unavailable = SERVICE_UNAVAILABLE, "unavailable", "The exchange cannot do this now; nothing has happened.";
    Behind = SERVICE_UNAVAILABLE, "behind", "This server does not know the journal that far yet.";
    OutcomeUnknown = SERVICE_UNAVAILABLE, "outcome_unknown", "The outcome is not known; repeat it with the same key.";
    Draining = SERVICE_UNAVAILABLE, "draining", "This server is shutting down; ask another one.";
    Timeout = SERVICE_UNAVAILABLE, "timeout", "It took too long.";
}

fn refusal_status(reject: Reject) -> StatusCode {
    match reject {
        Reject::Forbidden | Reject::NotSandbox | Reject::AccountClosed | Reject::AccountLocked => {
            StatusCode::FORBIDDEN
        }
        Reject::AssetUnknown
        | Reject::MarketUnknown
        | Reject::AccountUnknown
        | Reject::WithdrawalUnknown
        | Reject::OrderUnknown => StatusCode::NOT_FOUND,
        Reject::DepositKnown
        | Reject::WithdrawalState
        | Reject::OrderClosed
        | Reject::ClientOrderIdUsed => StatusCode::CONFLICT,
        Reject::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Reject::Internal | Reject::Genesis => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

fn refusal_title(reject: Reject) -> &'static str {
    match reject {
        Reject::Expired => "It reached the exchange too late and was not carried out.",
        Reject::Internal => "A defect of ours: it was not carried out.",
        Reject::Genesis => "The exchange has not been opened.",
        Reject::Forbidden => "This is not allowed.",
        Reject::AssetUnknown => "There is no such asset.",
        Reject::MarketUnknown => "There is no such market.",
        Reject::AssetInvalid => "The asset's definition is not possible.",
        Reject::MarketInvalid => "The market's definition is not possible.",
        Reject::TooMany => "No more of these can be defined.",
        Reject::AccountUnknown => "There is no such account.",
        Reject::AccountClosed => "The account is closed.",
        Reject::AccountLocked => "The account is locked.",
        Reject::AccountReserved => "The account is one of the exchange's own.",
        Reject::AccountNotEmpty => "The account still has balances or open orders.",
        Reject::AmountInvalid => "The amount is zero, or more than can be moved at once.",
        Reject::AmountPrecision => "The amount is finer than this asset can be moved.",
        Reject::NotSandbox => "Play money is for sandboxes alone.",
        Reject::DepositKnown => "A deposit with this reference is known.",
        Reject::SelfTransfer => "A transfer needs two accounts.",
        Reject::WithdrawalUnknown => "You have no such withdrawal.",
        Reject::WithdrawalState => "The withdrawal is past the state that allows this.",
        Reject::WithdrawalFrozen => "Withdrawals are frozen for this account.",
        Reject::InsufficientFunds => "This needs more than is available.",
        Reject::OrderInvalid => "The order's fields do not fit together.",
        Reject::QuantityInvalid => "The quantity is zero, or more than the market allows.",
        Reject::NotionalTooSmall => "Price × quantity is below the market's least.",
        Reject::NotionalTooLarge => "Price × quantity is more than one order may move.",
        Reject::PriceBand => "The price is too far from the market's.",
        Reject::MarketClosed => "The market takes no orders now.",
        Reject::MarketPostOnly => "The market takes post-only orders now.",
        Reject::PostOnlyWouldCross => "The post-only order would trade at once.",
        Reject::NoLiquidity => "There is nothing to trade with.",
        Reject::DisplayInvalid => "The visible slice is too small or too large for the quantity.",
        Reject::GtdOver => "The order's time is over already.",
        Reject::TriggerReached => "The stop's trigger is reached already.",
        Reject::TooManyOrders => "You have too many open orders in this market.",
        Reject::RateLimited => "You send too many orders in one second.",
        Reject::ClientOrderIdUsed => "This client order id is in use, or was a moment ago.",
        Reject::OrderUnknown => "You have no such order.",
        Reject::OrderClosed => "The order is closed.",
        Reject::AmendBelowFilled => "The new quantity is not above what is filled.",
        Reject::AmendInvalid => "The change changes nothing, or is not possible for this order.",
        Reject::AuditHeadStale => "The audit log's head is not beyond the one that was noted.",
    }
}

impl Code {
    /// Returns where the code is explained.
    #[must_use]
    pub fn anchor(self) -> String {
        format!("/docs#{}", self.name())
    }
}

/// A value that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Broken {
    /// The field, as it is written in the request.
    pub field: String,
    /// The stable name of the rule.
    pub rule: String,
    /// The rule in words.
    pub message: String,
    /// The nearest values that would pass.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<String>,
}

/// A refusal. [`crate::edge`] gives it its trace id and writes it.
#[derive(Clone, Debug)]
pub struct Problem {
    code: Code,
    detail: Option<String>,
    errors: Vec<Broken>,
    retry_after: Option<u32>,
    order: Option<serde_json::Value>,
}

/// A refusal as it is written: RFC 9457.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
#[serde(rename_all = "camelCase")]
pub struct ProblemBody {
    /// Where the code is explained.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// The stable name of what went wrong.
    pub code: String,
    /// What went wrong this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The trace that this request is part of.
    pub trace_id: String,
    /// The values that break a rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Broken>,
    /// Seconds to wait before trying again, for 429 and 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// The order as it stands, where the refusal is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub order: Option<serde_json::Value>,
}

impl Problem {
    /// Makes a refusal.
    #[must_use]
    pub fn new(code: Code) -> Self {
        let waits = matches!(
            code.status(),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        Self {
            code,
            detail: None,
            errors: Vec::new(),
            retry_after: waits.then_some(1),
            order: None,
        }
    }

    /// Makes a refusal by the core.
    #[must_use]
    pub fn refused(reject: Reject) -> Self {
        Self::new(Code::Refused(reject))
    }

    /// Makes a refusal of one value.
    #[must_use]
    pub fn value(field: &str, rule: &str, message: impl Into<String>) -> Self {
        Self::new(Code::ValueInvalid).with_error(field, rule, message)
    }

    /// Logs a failure behind the edge and hides it: what the client sees is that nothing has happened.
    #[must_use]
    pub fn unavailable(what: &str, error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %chain(error), "{what}");
        Self::new(Code::Unavailable)
    }

    /// Says more about this case.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Names a value and its rule.
    #[must_use]
    pub fn with_error(mut self, field: &str, rule: &str, message: impl Into<String>) -> Self {
        self.errors.push(Broken {
            field: field.to_owned(),
            rule: rule.to_owned(),
            message: message.into(),
            nearest: Vec::new(),
        });
        self
    }

    /// Names the value nearest to the refused one that would pass.
    #[must_use]
    pub fn nearest(mut self, nearest: impl Into<String>) -> Self {
        if let Some(broken) = self.errors.last_mut() {
            broken.nearest.push(nearest.into());
        }
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    /// Shows the order that the refusal is about.
    #[must_use]
    pub fn order(mut self, order: serde_json::Value) -> Self {
        self.order = Some(order);
        self
    }

    /// Returns its code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// Returns the seconds after which it may be tried again.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.retry_after
    }

    /// Returns it as it is written.
    #[must_use]
    pub fn body(self, trace_id: &str) -> ProblemBody {
        ProblemBody {
            kind: self.code.anchor(),
            title: self.code.title().to_owned(),
            status: self.code.status().as_u16(),
            code: self.code.name().to_owned(),
            detail: self.detail,
            trace_id: trace_id.to_owned(),
            errors: self.errors,
            retry_after: self.retry_after,
            order: self.order,
        }
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl From<FieldError> for Problem {
    fn from(error: FieldError) -> Self {
        let broken = Broken {
            field: error.field.to_owned(),
            rule: error.code.to_owned(),
            message: error.message,
            nearest: error.nearest,
        };
        let mut problem = Self::new(Code::ValueInvalid);
        problem.detail = Some(format!("{} {}", broken.field, broken.message));
        problem.errors.push(broken);
        problem
    }
}

impl IntoResponse for Problem {
    /// Carries the refusal to [`crate::edge`], which knows the trace id and writes the body.
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Returns an error with everything that caused it, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_has_its_own_name_and_an_error_status() {
        let all = || {
            let refused = Reject::ALL.iter().map(|reject| Code::Refused(*reject));
            Code::EDGE.iter().copied().chain(refused)
        };
        let names: HashSet<_> = all().map(Code::name).collect();
        assert_eq!(names.len(), all().count());
        for code in all() {
            let status = code.status();
            assert!(status.is_client_error() || status.is_server_error(), "{}", code.name());
        }
    }

    #[test]
    fn what_may_be_tried_again_says_when() {
        assert_eq!(Problem::new(Code::Behind).retry_after_seconds(), Some(1));
        assert_eq!(Problem::refused(Reject::RateLimited).retry_after_seconds(), Some(1));
        assert_eq!(Problem::new(Code::NotFound).retry_after_seconds(), None);
    }
}
