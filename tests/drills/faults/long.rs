//! What takes long, or needs a disk of its own.

use std::fs::File;
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use super::processes::{FAILOVER, FAILOVER_UNSEEN};
use crate::drill::Run;
use crate::report::spread;
use crate::stand::Stand;

/// Kills of payment-processors and servers in an endurance run.
const KILLS: u64 = 220;
/// Orders acknowledged in an endurance run.
const ACKNOWLEDGED: usize = 100_000;
/// How soon orders must flow again, in the middle, after a kill of the active payment-processor with a standby.
const MEDIAN: f64 = 3.0;
const CONNECTIONS_MAX: u32 = 100;

pub(super) fn endurance(run: &mut Run<'_>) {
    let load = run.load();
    let mut active_kills = Vec::new();
    let mut counts = [0_u64; 4];
    let began = Instant::now();
    let mut kills = 0;
    while kills < KILLS || load.journal.acknowledged() < ACKNOWLEDGED {
        run.random_pause(2_500);
        let turn = run.faults % 20;
        let fault = Instant::now();
        match turn {
            7 => {
                run.stand.broker.kill();
                run.stand.broker.start_again().unwrap_or_else(|error| panic!("{error}"));
                run.faults += 1;
                counts[2] += 1;
                run.recovered(&load, Instant::now(), FAILOVER_UNSEEN);
            }
            15 => {
                run.stand.stop_database(run.faults % 40 == 15);
                run.stand.start_database(CONNECTIONS_MAX);
                run.faults += 1;
                counts[3] += 1;
                run.recovered(&load, Instant::now(), FAILOVER_UNSEEN);
            }
            turn if turn % 3 == 0 => {
                let victim = usize::try_from(run.random.below(2)).unwrap_or(0);
                run.stand.servers[victim].kill();
                run.faults += 1;
                kills += 1;
                counts[1] += 1;
                run.recovered(&load, fault, FAILOVER);
                run.stand.servers[victim].spawn();
            }
            _ => {
                let active = run.stand.wait_active();
                let fault = Instant::now();
                run.stand.processors[active].kill();
                run.faults += 1;
                kills += 1;
                counts[0] += 1;
                active_kills.push(run.recovered(&load, fault, FAILOVER));
                run.stand.processors[active].spawn();
            }
        }
        if run.faults % 10 == 0 {
            println!(
                "    {:.0} s: {kills} kills, {} orders acknowledged",
                began.elapsed().as_secs_f64(),
                load.journal.acknowledged()
            );
        }
        run.stand.wait_ready();
    }
    let [processors, servers, brokers, databases] = counts;
    run.note(format!(
        "{processors} kills of the active payment-processor, {servers} of a server, {brokers} of RabbitMQ, {databases} restarts of PostgreSQL"
    ));
    let (min, median, max) = spread(&active_kills).expect("there were kills");
    run.note(format!(
        "orders flow again after a kill of the active payment-processor: {min:.2} / {median:.2} / {max:.2} s"
    ));
    run.end_and_check(load);
    assert!(median <= MEDIAN, "the median of the recoveries is {median:.2} s");
}

/// A file system in memory, as small as we like.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &std::path::Path, megabytes: u32) -> Option<Self> {
        std::fs::create_dir_all(at).ok()?;
        let size = format!("size={megabytes}m,mode=0755");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        mounted.ok()?.status.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

pub(super) fn disk_full(run: &mut Run<'_>) {
    if !rustix::process::geteuid().is_root() {
        run.skip("a small file system can be mounted by root alone");
        return;
    }
    let directory = Stand::new_directory();
    // PostgreSQL's write-ahead log keeps 256 MB; the rest is for the tables.
    let Some(disk) = SmallDisk::mount(&directory.join("postgres"), 700) else {
        run.skip("no tmpfs can be mounted here");
        return;
    };
    let mut stand = Stand::start_in(directory);
    std::mem::swap(run.stand, &mut stand);
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fill(run, &disk)));
    std::mem::swap(run.stand, &mut stand);
    drop(stand);
    drop(disk);
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

fn fill(run: &mut Run<'_>, disk: &SmallDisk) {
    let load = run.load();
    run.wait_orders(&load, 100);
    let ballast = disk.0.join("ballast");
    let mut file = File::create(&ballast).expect("there is room yet");
    let block = vec![0; 256 * 1024];
    while file.write_all(&block).is_ok() {}
    run.faults += 1;
    let full = Instant::now();
    std::thread::sleep(Duration::from_secs(run.or_long(5, 30)));
    let meanwhile = load.journal.latencies_since(full).len();
    run.note(format!("{meanwhile} orders were decided while the disk was full"));
    for server in &run.stand.servers {
        assert_eq!(server.status("/health"), Some(200), "{} lives", server.name);
    }
    drop(file);
    std::fs::remove_file(&ballast).expect("it is ours");
    // PostgreSQL itself may have given up; whoever watches over it starts it again.
    run.stand.stop_database(false);
    run.stand.start_database(CONNECTIONS_MAX);
    run.recovered(&load, Instant::now(), FAILOVER_UNSEEN);
    run.end_and_check(load);
}
