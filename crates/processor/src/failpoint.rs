//! Named points where a test makes the sequencer fail. Without the feature `failpoints` they are nothing.
//!
//! `KX_FAILPOINTS` names them: `after_append=abort:3;before_ack=pause` aborts the process at the third pass of
//! the one and stops for ever at the other. Tests inside the process use `set`.

#[cfg(feature = "failpoints")]
mod on {
    use std::collections::HashMap;
    use std::sync::LazyLock;

    use parking_lot::Mutex;
    use units::CommandId;

    /// What happens at a point.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Action {
        /// The process ends as if it were killed.
        Abort,
        /// The thread panics.
        Panic,
        /// The thread stands still for ever.
        Pause,
    }

    static POINTS: LazyLock<Mutex<HashMap<String, (Action, u64)>>> = LazyLock::new(|| {
        let text = std::env::var("KX_FAILPOINTS").unwrap_or_default();
        Mutex::new(text.split(';').filter_map(parse).collect())
    });
    static VENOM: Mutex<Vec<CommandId>> = Mutex::new(Vec::new());

    fn parse(text: &str) -> Option<(String, (Action, u64))> {
        let (name, action) = text.trim().split_once('=')?;
        let (action, pass) = action.split_once(':').unwrap_or((action, "1"));
        let action = match action {
            "abort" => Action::Abort,
            "panic" => Action::Panic,
            "pause" => Action::Pause,
            _ => return None,
        };
        Some((name.to_owned(), (action, pass.parse().ok()?)))
    }

    /// Makes `action` happen at the point's `pass`-th pass from now on.
    pub fn set(name: &str, action: Action, pass: u64) {
        POINTS.lock().insert(name.to_owned(), (action, pass));
    }

    /// Makes applying what this command does panic, where it is not refused unread.
    pub fn envenom(command: CommandId) {
        VENOM.lock().push(command);
    }

    /// Passes a point.
    pub(crate) fn pass(name: &str) {
        let action = {
            let mut points = POINTS.lock();
            let Some((action, left)) = points.get_mut(name) else {
                return;
            };
            *left = left.saturating_sub(1);
            if *left > 0 {
                return;
            }
            let action = *action;
            points.remove(name);
            action
        };
        match action {
            Action::Abort => std::process::abort(),
            Action::Panic => panic!("the failpoint {name} was told to panic"),
            Action::Pause => loop {
                std::thread::park();
            },
        }
    }

    /// Panics where the command is envenomed and does anything.
    pub(crate) fn evolve(command: CommandId, event: &engine::Event) {
        let does_something = !matches!(event, engine::Event::Rejected(_));
        assert!(!does_something || !VENOM.lock().contains(&command), "an envenomed command panics");
    }
}

#[cfg(feature = "failpoints")]
pub use on::{Action, envenom, set};
#[cfg(feature = "failpoints")]
pub(crate) use on::{evolve, pass};

/// Passes a point: nothing.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) fn pass(_name: &str) {}

/// Looks for venom: there is none.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) fn evolve(_command: units::CommandId, _event: &engine::Event) {}
