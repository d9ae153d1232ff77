//! A span, as every way out has it: the store's JSON, Jaeger's, and OTLP.

/// What a span is to the one on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Kind {
    /// Something within a process.
    #[default]
    Internal,
    /// Answers a request.
    Server,
    /// Sends a request.
    Client,
    /// Gives a message to a queue.
    Producer,
    /// Works on a message.
    Consumer,
}

impl Kind {
    /// Returns its name, as Jaeger's `span.kind` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }

    /// Returns OTLP's number for it.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::Internal => 1,
            Self::Server => 2,
            Self::Client => 3,
            Self::Producer => 4,
            Self::Consumer => 5,
        }
    }

    /// Reads OTLP's number; what is not known counts as internal.
    #[must_use]
    pub fn of_number(number: i32) -> Self {
        let all = [Self::Server, Self::Client, Self::Producer, Self::Consumer];
        all.into_iter().find(|kind| kind.number() == number).unwrap_or_default()
    }
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Words.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Yes or no.
    Bool(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

/// A piece of work with its place in time and in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The trace.
    pub trace_id: u128,
    /// The span.
    pub span_id: u64,
    /// The span that it is part of; 0: none.
    pub parent_id: u64,
    /// Whose work it is.
    pub service: String,
    /// What work.
    pub name: String,
    /// What it is to the other side.
    pub kind: Kind,
    /// When it began, in microseconds since 1970.
    pub begun: u64,
    /// How long it took, in microseconds.
    pub micros: u64,
    /// What else is known, by OpenTelemetry's names where it has one.
    pub attributes: Vec<(String, Value)>,
    /// Spans of this trace that it follows from without being part of them.
    pub follows: Vec<u64>,
    /// Whether it failed.
    pub failed: bool,
}

impl Span {
    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.attributes.push((name.to_owned(), value.into()));
        self
    }
}
