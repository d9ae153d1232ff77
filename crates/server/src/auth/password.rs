//! Passwords, hashed with argon2id on threads of their own, few at a time, which give way to everybody else's.
//!
//! Invariant: an unknown user costs the same hash as a known one, so time tells nobody who has an account. A storm of
//! logins costs orders little: the threads that hash have the lowest priority and rest for most of the time, and what would
//! have to wait for long is refused.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::config::PasswordCost;
use crate::problem::{Code, Problem};

/// The shortest password, in characters.
pub const CHARACTERS_MIN: usize = 10;
/// The longest password, in bytes.
pub const BYTES_MAX: usize = 128;

/// Those who wait for one thread, and the one that it works for: about two seconds, rests among them.
const PLACES_PER_THREAD: usize = 16;
/// How much the hashing threads give way (`nice`): all they can.
const NICE: i32 = 19;
/// How long a thread rests after a hash, in times of what that took: it uses a seventh of a processor at most, and less the
/// more the others keep it waiting. Priority alone does not do: the system weighs it within a session or a control group
/// only, and PostgreSQL's processes are in others.
const REST: u32 = 6;
/// The longest rest. Where orders use up the machine, somebody is still let in.
const REST_MAX: Duration = Duration::from_secs(1);

/// What a hashing thread does next.
type Job = Box<dyn FnOnce() + Send>;

/// A place in the queue for a hash.
#[must_use]
pub struct Place {
    /// Given back when it is dropped.
    _permit: OwnedSemaphorePermit,
}

/// Hashes and checks passwords.
pub struct Passwords {
    argon2: Argon2<'static>,
    /// What a hash of the present cost begins with.
    prefix: String,
    /// Who is being served or waits for it.
    places: Arc<Semaphore>,
    /// To the threads; they end with it.
    jobs: SyncSender<Job>,
    /// The hash of a password that nobody has, for users that are not there.
    nobody: Arc<str>,
}

impl Passwords {
    /// Makes a hasher and starts its threads.
    ///
    /// # Panics
    ///
    /// When the cost is not one that argon2 takes (the configuration is checked before), or the system has no thread left.
    #[must_use]
    pub fn new(cost: PasswordCost) -> Self {
        let params = Params::new(cost.memory_kib, cost.passes, 1, None)
            .expect("the configured cost is one that argon2 takes");
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let parallel = cost.parallel_max.max(1);
        let places = Arc::new(Semaphore::new(parallel * PLACES_PER_THREAD));
        let jobs = start(parallel);
        let prefix = format!("$argon2id$v=19$m={},t={},p=1$", cost.memory_kib, cost.passes);
        let nobody = hash_of_nobody(&prefix);
        Self { argon2, prefix, places, jobs, nobody: nobody.into() }
    }

    /// Tells whether a hash was made at another cost than the present one.
    #[must_use]
    pub fn is_outdated(&self, stored: &str) -> bool {
        !stored.starts_with(&self.prefix)
    }

    /// Hashes a password.
    ///
    /// # Errors
    ///
    /// [`Code::TooManyRequests`] when too many wait; [`Code::Defect`] when the hasher fails.
    pub async fn hash(&self, password: String) -> Result<String, Problem> {
        let argon2 = self.argon2.clone();
        self.queued(self.place()?, move || hash_now(&argon2, &password)).await
    }

    /// Takes a place for [`Passwords::check`]: before anything else is done for a login, so that one that is sent away costs
    /// next to nothing and counts as no attempt.
    ///
    /// # Errors
    ///
    /// [`Code::TooManyRequests`] when too many wait.
    pub fn place(&self) -> Result<Place, Problem> {
        // A storm of logins is told to come back: whoever waited longer would have gone by then.
        let place = Arc::clone(&self.places).try_acquire_owned();
        let permit = place.map_err(|_| Problem::new(Code::TooManyRequests))?;
        Ok(Place { _permit: permit })
    }

    /// Checks a password against a stored hash; without one it takes as long and says no.
    ///
    /// # Errors
    ///
    /// [`Code::Defect`] when the hasher fails.
    pub async fn check(
        &self,
        place: Place,
        password: String,
        stored: Option<String>,
    ) -> Result<bool, Problem> {
        let argon2 = self.argon2.clone();
        let nobody = Arc::clone(&self.nobody);
        self.queued(place, move || {
            let known = stored.is_some();
            let text = stored.as_deref().unwrap_or(&nobody);
            let right = PasswordHash::new(text)
                .is_ok_and(|hash| argon2.verify_password(password.as_bytes(), &hash).is_ok());
            right && known
        })
        .await
    }

    async fn queued<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let (tell, told) = oneshot::channel();
        let job = move || {
            // Whoever has gone meanwhile needs no hash.
            if !tell.is_closed() {
                let done = work();
                // The place is free before anybody can have heard of it.
                drop(place);
                _ = tell.send(done);
            }
        };
        // There is room: the queue has as many places as there are permits.
        self.jobs.try_send(Box::new(job)).map_err(|_| Problem::new(Code::Defect))?;
        told.await.map_err(|_| Problem::new(Code::Defect))
    }
}

/// Starts the threads that hash, which end when the sender is gone.
fn start(parallel: usize) -> SyncSender<Job> {
    let (jobs, queue) = sync_channel(parallel * PLACES_PER_THREAD);
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..parallel {
        let queue = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("kx-password".to_owned());
        thread.spawn(move || hash_along(&queue)).expect("the system has room for a few threads");
    }
    jobs
}

/// Works off the queue for as long as somebody may put something into it.
fn hash_along(queue: &Mutex<Receiver<Job>>) {
    // On Linux a thread has a priority of its own.
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::nice(NICE)
    {
        tracing::warn!(%error, "passwords are hashed at the priority of everything else");
    }
    loop {
        // One waits in the channel, the others for the lock.
        let Ok(job) = queue.lock().recv() else { return };
        let begun = Instant::now();
        // Who waits for it hears that it is gone. The panic hook has logged where and why.
        _ = catch_unwind(AssertUnwindSafe(job));
        std::thread::sleep(rest_after(begun.elapsed()));
    }
}

fn rest_after(hash: Duration) -> Duration {
    (hash * REST).min(REST_MAX)
}

/// Makes up the hash of a password that nobody has: a salt and an output at random. To check against it costs what any check
/// does; to make it, nothing (a hash takes the memory that it is meant to take, which an idle exchange would keep).
fn hash_of_nobody(prefix: &str) -> String {
    let salt = STANDARD_NO_PAD.encode(rand::random::<[u8; 16]>());
    let output = STANDARD_NO_PAD.encode(rand::random::<[u8; 32]>());
    format!("{prefix}{salt}${output}")
}

fn hash_now(argon2: &Argon2<'_>, password: &str) -> String {
    argon2
        .hash_password(password.as_bytes())
        .expect("a password of bounded length and a random salt can be hashed")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_recognized_and_nobodys_is_not() {
        let cost = PasswordCost { memory_kib: 64, passes: 1, parallel_max: 1 };
        let passwords = Passwords::new(cost);
        let stored = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{stored}");
        let check = async |password: &str, stored: Option<&String>| {
            let place = passwords.place().unwrap();
            passwords.check(place, password.to_owned(), stored.cloned()).await.unwrap()
        };
        assert!(check("correct horse", Some(&stored)).await);
        assert!(!check("battery staple", Some(&stored)).await);
        assert!(!check("correct horse", None).await);
        assert!(!check("correct horse", Some(&"nonsense".to_owned())).await);
        assert!(!check("", Some(&String::new())).await, "a closed user has no hash");
    }

    #[test]
    fn the_hash_of_nobody_is_one_that_is_checked_in_full() {
        let cost = PasswordCost { memory_kib: 64, passes: 1, parallel_max: 1 };
        let passwords = Passwords::new(cost);
        let nobody = PasswordHash::new(&passwords.nobody).unwrap();
        let real = hash_now(&passwords.argon2, "correct horse");
        let real = PasswordHash::new(&real).unwrap();
        assert_eq!((nobody.algorithm, nobody.version), (real.algorithm, real.version));
        assert_eq!(nobody.params, real.params);
        let lengths = |hash: &PasswordHash| {
            (hash.salt.unwrap().as_ref().len(), hash.hash.unwrap().as_bytes().len())
        };
        assert_eq!(lengths(&nobody), lengths(&real));
        // It is compared with a password's, which is a refusal and not a failure to read it.
        let refused = passwords.argon2.verify_password(b"correct horse", &nobody);
        assert_eq!(refused, Err(argon2::password_hash::Error::PasswordInvalid));
        assert_ne!(*Passwords::new(cost).nobody, *passwords.nobody);
    }

    #[tokio::test]
    async fn a_hash_of_another_cost_is_taken_and_known_to_be_outdated() {
        let cost = PasswordCost { memory_kib: 64, passes: 1, parallel_max: 1 };
        let old = Passwords::new(cost).hash("correct horse".to_owned()).await.unwrap();
        let passwords = Passwords::new(PasswordCost { passes: 2, ..cost });
        let check = async |password: &str| {
            let place = passwords.place().unwrap();
            passwords.check(place, password.to_owned(), Some(old.clone())).await.unwrap()
        };
        assert!(check("correct horse").await);
        assert!(!check("battery staple").await);
        assert!(passwords.is_outdated(&old));
        let new = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(!passwords.is_outdated(&new));
    }

    /// A hasher of one thread, and what holds that thread up until it is dropped.
    async fn held_up() -> (Arc<Passwords>, std::sync::mpsc::Sender<()>) {
        let cost = PasswordCost { memory_kib: 64, passes: 1, parallel_max: 1 };
        let passwords = Arc::new(Passwords::new(cost));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        passwords.jobs.try_send(Box::new(move || _ = wait.recv())).unwrap();
        (passwords, go)
    }

    fn ask(passwords: &Arc<Passwords>) -> tokio::task::JoinHandle<Result<String, Problem>> {
        let passwords = Arc::clone(passwords);
        tokio::spawn(async move { passwords.hash("correct horse".to_owned()).await })
    }

    async fn until_waiting(passwords: &Passwords, count: usize) {
        while passwords.places.available_permits() != PLACES_PER_THREAD - count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn more_than_can_wait_are_sent_away() {
        let (passwords, go) = held_up().await;
        // The thread has taken the job that holds it up, or will: one place less is sure to be free.
        let waiting: Vec<_> = (1..PLACES_PER_THREAD).map(|_| ask(&passwords)).collect();
        until_waiting(&passwords, waiting.len()).await;
        let _last = passwords.place().unwrap();
        let refused = passwords.hash("correct horse".to_owned()).await.unwrap_err();
        assert_eq!(refused.code(), Code::TooManyRequests);
        drop(go);
        for one in waiting {
            one.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn who_has_gone_costs_no_hash_and_gives_the_place_back() {
        let (passwords, go) = held_up().await;
        let gone = ask(&passwords);
        until_waiting(&passwords, 1).await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        assert_eq!(passwords.places.available_permits(), PLACES_PER_THREAD - 1);
        drop(go);
        until_waiting(&passwords, 0).await;
    }

    #[tokio::test]
    async fn a_panic_costs_one_answer_and_no_thread() {
        let cost = PasswordCost { memory_kib: 64, passes: 1, parallel_max: 1 };
        let passwords = Passwords::new(cost);
        let failed =
            passwords.queued::<()>(passwords.place().unwrap(), || panic!("a defect")).await;
        assert_eq!(failed.unwrap_err().code(), Code::Defect);
        until_waiting(&passwords, 0).await;
        passwords.hash("correct horse".to_owned()).await.unwrap();
    }

    #[tokio::test]
    async fn a_thread_rests_after_a_hash_for_longer_than_it_took() {
        let cost = PasswordCost { memory_kib: 64, passes: 1, parallel_max: 1 };
        let passwords = Passwords::new(cost);
        let took = Duration::from_millis(20);
        let work = move || {
            let begun = Instant::now();
            std::thread::sleep(took);
            begun
        };
        let first = passwords.queued(passwords.place().unwrap(), work).await.unwrap();
        let second = passwords.queued(passwords.place().unwrap(), work).await.unwrap();
        assert!(second - first >= took * (1 + REST), "{:?}", second - first);
        assert_eq!(rest_after(Duration::from_secs(5)), REST_MAX, "somebody is still let in");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_thread_that_hashes_gives_way_and_no_other() {
        let own = || rustix::process::getpriority_process(None).unwrap();
        let cost = PasswordCost { memory_kib: 64, passes: 1, parallel_max: 1 };
        let passwords = Passwords::new(cost);
        let before = own();
        let (name, there) = passwords
            .queued(passwords.place().unwrap(), move || {
                (std::thread::current().name().map(str::to_owned), own())
            })
            .await
            .unwrap();
        assert_eq!(name.as_deref(), Some("kx-password"));
        assert_eq!(there, (before + NICE).min(19));
        assert_eq!(own(), before);
    }
}
