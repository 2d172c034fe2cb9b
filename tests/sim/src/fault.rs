//! Faults: what is disturbed, for how long, and when it is over.

use std::time::{Duration, Instant};

use crate::{
    check::WorkerEnd,
    node::{Child, Exit, Hive, Queen, Site},
    runtime::Process,
};

/// Kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A worker is killed (SIGKILL).
    KillWorker,
    /// A worker crashes by itself (SIGSEGV).
    CrashWorker,
    /// A worker is frozen for a while (SIGSTOP).
    FreezeWorker,
    /// The engine of a worker hangs.
    HangWorker,
    /// A worker is cut off from the server.
    CutWorker,
    /// The clock of a worker runs away.
    RunAwayWorker,
    /// A hive is killed and started again.
    RestartHive,
    /// A hive is frozen for a while.
    FreezeHive,
    /// A hive is cut off from the server.
    CutHive,
    /// A machine is cut off with everything on it.
    CutMachine,
    /// The clock of a hive runs away.
    RunAwayHive,
    /// A queen is killed and started again.
    RestartQueen,
    /// A queen is frozen for a while.
    FreezeQueen,
    /// A queen is cut off from the server.
    CutQueen,
    /// A client is cut off from the server.
    CutClient,
    /// The server restarts.
    RestartServer,
    /// The disk of the server is slow.
    SlowDisk,
    /// Answers to publishes are lost.
    LoseAnswers,
    /// The streams have no leader.
    NoLeader,
    /// The output stream is full.
    FullOutput,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 20] = [
        Self::KillWorker,
        Self::CrashWorker,
        Self::FreezeWorker,
        Self::HangWorker,
        Self::CutWorker,
        Self::RunAwayWorker,
        Self::RestartHive,
        Self::FreezeHive,
        Self::CutHive,
        Self::CutMachine,
        Self::RunAwayHive,
        Self::RestartQueen,
        Self::FreezeQueen,
        Self::CutQueen,
        Self::CutClient,
        Self::RestartServer,
        Self::SlowDisk,
        Self::LoseAnswers,
        Self::NoLeader,
        Self::FullOutput,
    ];
}

/// Time after a disturbance of everything in which its consequences may still be seen.
const AFTERMATH: Duration = Duration::from_secs(30);

/// Duration of a disturbance: mostly seconds, sometimes minutes.
fn length(site: &Site) -> Duration {
    match site.runtime.draw(|rng| rng.u32(0..10)) {
        0..5 => site.runtime.between(Duration::from_millis(100), Duration::from_secs(5)),
        5..9 => site.runtime.between(Duration::from_secs(5), Duration::from_secs(60)),
        _ => site.runtime.between(Duration::from_secs(60), Duration::from_secs(300)),
    }
}

fn pick<T: Clone>(site: &Site, from: &[T]) -> Option<T> {
    (!from.is_empty()).then(|| from[site.runtime.draw(|rng| rng.usize(0..from.len()))].clone())
}

/// Injects a fault into a worker. Returns false if there is none.
pub(crate) fn into_worker(site: &Site, kind: Kind) -> bool {
    let Some(child) = pick(site, &site.children()) else { return false };
    let (process, length) = (child.process().clone(), length(site));
    site.judge.process_disturbed(&process, site.runtime.now() + length);
    site.runtime.log(|| format!("fault {kind:?} in {process:?} for {length:?}"));
    let (end, at) = (site.clone(), site.runtime.now() + length);
    match kind {
        Kind::KillWorker => site.kill_child(&child),
        Kind::CrashWorker => site.end_child(&child, Exit { code: None, signal: Some(11) }, &WorkerEnd::Crashed),
        Kind::FreezeWorker => {
            site.freeze_child(&child);
            site.runtime.at(at, move || end.thaw_child(&child));
        }
        Kind::HangWorker => {
            child.hang(true);
            site.judge.serves_no_more(&process);
        }
        Kind::CutWorker => {
            site.network.cut(&process);
            site.runtime.at(at, move || end.network.heal(&process));
        }
        Kind::RunAwayWorker => run_away(site, &child, at),
        _ => return false,
    }
    true
}

/// Rate of a clock that runs away: mostly a few times too fast or too slow, sometimes twenty times too fast.
fn rate(site: &Site) -> f64 {
    let most = if site.runtime.one_in(5) { 20.0 } else { 4.0 };
    site.runtime.draw(|rng| 0.3 + rng.f64() * most)
}

fn run_away(site: &Site, child: &Child, until: Instant) {
    let process = child.process().clone();
    process.run_clock_at(rate(site));
    site.runtime.at(until, move || process.run_clock_at(1.0));
}

/// Injects a fault into a hive. `restart` is called when a killed hive is to be started again.
pub(crate) fn into_hive(site: &Site, kind: Kind, hive: &Hive, restart: impl FnOnce() + 'static) -> bool {
    let (process, length) = (hive.process().clone(), length(site));
    let at = site.runtime.now() + length;
    site.runtime.log(|| format!("fault {kind:?} in {process:?} for {length:?}"));
    site.judge.process_disturbed(&process, at);
    let end = site.clone();
    match kind {
        Kind::RestartHive => {
            hive.kill(site);
            site.runtime.at(at, restart);
        }
        Kind::FreezeHive => freeze(site, &process, at),
        Kind::CutHive => {
            site.network.cut(&process);
            site.runtime.at(at, move || end.network.heal(&process));
        }
        Kind::CutMachine => {
            let of_hive = |child: &Child| child.worker().0 == hive.machine().hive;
            let workers = site.children().into_iter().filter(of_hive).map(|child| child.process().clone());
            let all: Vec<_> = workers.chain([process]).collect();
            for process in &all {
                site.judge.process_disturbed(process, at);
                site.network.cut(process);
            }
            site.runtime.at(at, move || all.iter().for_each(|process| end.network.heal(process)));
        }
        Kind::RunAwayHive => {
            process.run_clock_at(rate(site));
            site.runtime.at(at, move || process.run_clock_at(1.0));
        }
        _ => return false,
    }
    true
}

/// Injects a fault into a queen. `restart` is called when a killed queen is to be started again.
pub(crate) fn into_queen(site: &Site, kind: Kind, queen: &Queen, restart: impl FnOnce() + 'static) -> bool {
    let (process, length) = (queen.process().clone(), length(site));
    let at = site.runtime.now() + length;
    site.runtime.log(|| format!("fault {kind:?} in {process:?} for {length:?}"));
    // A queen may be wrong about a worker that it does not hear, and return its jobs.
    disturb_all(site, at);
    let end = site.clone();
    match kind {
        Kind::RestartQueen => {
            queen.kill(site);
            site.runtime.at(at, restart);
        }
        Kind::FreezeQueen => freeze(site, &process, at),
        Kind::CutQueen => {
            site.network.cut(&process);
            site.runtime.at(at, move || end.network.heal(&process));
        }
        _ => return false,
    }
    true
}

fn freeze(site: &Site, process: &Process, until: Instant) {
    let (process, end) = (process.clone(), site.clone());
    process.freeze();
    site.network.frozen(&process);
    site.runtime.at(until, move || {
        process.thaw();
        end.network.thawed(&process);
    });
}

/// Injects a fault into the server.
pub(crate) fn into_server(site: &Site, kind: Kind) -> bool {
    let length = length(site);
    let at = site.runtime.now() + length;
    site.runtime.log(|| format!("fault {kind:?} for {length:?}"));
    let end = site.clone();
    match kind {
        Kind::RestartServer => {
            let away = site.runtime.between(Duration::from_millis(10), length.min(Duration::from_secs(60)));
            site.network.restart_server(away);
        }
        Kind::SlowDisk => {
            let slow = site.runtime.between(Duration::from_millis(100), Duration::from_secs(12));
            site.network.set_weather(|weather| weather.slow = slow);
            site.runtime.at(at, move || end.network.set_weather(|weather| weather.slow = Duration::ZERO));
        }
        Kind::LoseAnswers => {
            site.network.set_weather(|weather| weather.lost_answers = 3);
            site.runtime.at(at, move || end.network.set_weather(|weather| weather.lost_answers = 0));
        }
        Kind::NoLeader => {
            site.network.set_weather(|weather| weather.no_leader = true);
            site.runtime.at(at, move || end.network.set_weather(|weather| weather.no_leader = false));
        }
        Kind::FullOutput => {
            site.network.change(|server| server.stuff("output", true));
            site.runtime.at(at, move || end.network.change(|server| server.stuff("output", false)));
        }
        _ => return false,
    }
    disturb_all(site, at);
    true
}

/// Cuts a client off.
pub(crate) fn into_client(site: &Site, process: &Process) {
    let (process, at, end) = (process.clone(), site.runtime.now() + length(site), site.clone());
    site.network.cut(&process);
    site.runtime.at(at, move || end.network.heal(&process));
}

fn disturb_all(site: &Site, until: Instant) {
    site.judge.disturbed(until + AFTERMATH);
}
