//! Clusters of one, three and five members on simulated time, network and disks.
//!
//! ```text
//!   formed ──► trouble: crashes, cuts, pauses, … ──► everything is well again ──► converged?
//!      clients ask and read all along; every answer and every event read is remembered ──► held to it
//! ```
//!
//! A round is one seed. Everything runs on one thread: the production log, consensus, sequencer and
//! state of each member as the tasks of a simulated process, which can be killed, stopped and started
//! again; the time is tokio's, paused, and moves when nobody has anything to do.

mod client;
mod cut_short;
mod disk;
mod fate;
mod life;
mod net;
mod slow_epoch;
mod told;
mod verdict;
mod world;

pub use cut_short::{Cut, CutShort, Victim, When, cut_short};
pub use slow_epoch::{SlowEpoch, slow_epoch};
pub use told::{Asked, Call, Claim, Told};

use crate::Violation;
use log::{cluster::Failover, wal};
use rt::{SimRandom, SimTasks};
use std::{sync::Arc, time::Duration};
use world::World;

/// Something done wrong on purpose, to prove that it would be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A sync of the log does nothing, so that what is answered is not durable.
    AckBeforeSync,
    /// A vote is given and not stored.
    VoteNotStored,
    /// Neither head nor epoch nor term of a proposal is looked at where it is written.
    EpochNotChecked,
    /// Entries that another leader has replaced stay.
    TailKept,
    /// A leader that was one when it last looked answers reads as the latest.
    LeaseTrusted,
    /// A restarted leader goes on in its old term.
    LeaderResumes,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::AckBeforeSync,
        Self::VoteNotStored,
        Self::EpochNotChecked,
        Self::TailKept,
        Self::LeaseTrusted,
        Self::LeaderResumes,
    ];
}

impl Mistake {
    /// Which mistake of the log itself it is, if it is one.
    fn of_log(self) -> Option<wal::Mistake> {
        match self {
            Self::EpochNotChecked => Some(wal::Mistake::EpochNotAwaited),
            Self::TailKept => Some(wal::Mistake::SuffixNotCut),
            Self::LeaderResumes => Some(wal::Mistake::LeaderResumes),
            Self::AckBeforeSync | Self::VoteNotStored | Self::LeaseTrusted => None,
        }
    }
}

/// How a round goes, as far as that is not left to the dice on the way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub members: u8,
    pub failover: Failover,
    pub election: (Duration, Duration),
    pub heartbeat: Duration,
    pub wal: wal::Options,
    /// How long each write takes on a good day.
    pub lag: Duration,
    /// How long there is trouble.
    pub trouble: Duration,
    /// How many troubles there are at most.
    pub faults: u64,
    /// About how long it is quiet between two.
    pub pause_ms: u64,
    /// About how long a client waits between two calls.
    pub pace_ms: u64,
    /// Whether many read at once, from anybody, also from who gets no turn.
    pub readers: bool,
    pub mistake: Option<Mistake>,
    pub begun: tokio::time::Instant,
}

/// What happened in a round, so that a test can see that it was worth running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each counts what its name says")]
pub struct Tally {
    pub troubles: u64,
    pub crashes: u64,
    pub tails_cut: u64,
    pub cuts: u64,
    pub pauses: u64,
    pub full: u64,
    pub messages: u64,
    pub lost: u64,
    pub doubled: u64,
    /// Times a node came to decide.
    pub authorities: u64,
    pub promoted: u64,
    pub not_promoted: u64,
    pub handed_over: u64,
    pub snapshots: u64,
    pub fenced: u64,
    pub answered: u64,
    pub unavailable: u64,
    pub unknown: u64,
    /// Calls without an answer.
    pub unheard: u64,
    pub read: u64,
    pub events: u64,
    pub polls: u64,
    /// Simulated milliseconds.
    pub ms: u64,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            troubles: self.troubles + other.troubles,
            crashes: self.crashes + other.crashes,
            tails_cut: self.tails_cut + other.tails_cut,
            cuts: self.cuts + other.cuts,
            pauses: self.pauses + other.pauses,
            full: self.full + other.full,
            messages: self.messages + other.messages,
            lost: self.lost + other.lost,
            doubled: self.doubled + other.doubled,
            authorities: self.authorities + other.authorities,
            promoted: self.promoted + other.promoted,
            not_promoted: self.not_promoted + other.not_promoted,
            handed_over: self.handed_over + other.handed_over,
            snapshots: self.snapshots + other.snapshots,
            fenced: self.fenced + other.fenced,
            answered: self.answered + other.answered,
            unavailable: self.unavailable + other.unavailable,
            unknown: self.unknown + other.unknown,
            unheard: self.unheard + other.unheard,
            read: self.read + other.read,
            events: self.events + other.events,
            polls: self.polls + other.polls,
            ms: self.ms + other.ms,
        }
    }
}

/// What came of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// What happened.
    pub tally: Tally,
    /// A number that depends on every step: the same for the same seed.
    pub trace: u64,
    /// The invariant that does not hold, if one does not.
    pub violation: Option<Violation>,
    /// What happened, line by line.
    pub story: Vec<String>,
}

/// Runs one round. With `faults`, at most so many troubles befall it.
pub fn cluster_round(seed: u64, mistake: Option<Mistake>, faults: Option<u64>) -> Round {
    let faults = faults.unwrap_or(u64::MAX);
    let planned = |random: &SimRandom| {
        let mut plan = Plan { faults, readers: seed % 5 == 4, mistake, ..plan(random) };
        plan.wal.mistake = mistake.and_then(Mistake::of_log);
        plan
    };
    play(seed, planned, verdict::whole)
}

/// Plays what happens in a world that goes as planned.
fn play<F>(seed: u64, planned: impl FnOnce(&SimRandom) -> Plan, what: impl FnOnce(Arc<World>) -> F) -> Round
where
    F: Future<Output = ()> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without input and output needs nothing from the system");
    let _within = runtime.enter();
    let random = SimRandom::new(seed ^ 0x00C1_5732_0000_0000);
    let plan = planned(&random);
    let world = Arc::new(World::new(plan, random.u64()));
    let tasks = SimTasks::new(random.u64());
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(tasks.run(what(Arc::clone(&world))));
    }));
    if ended.is_err() {
        world.violated(Violation::new("terminates", "a task never waits"));
    }
    let ms = runtime.block_on(async { plan.begun.elapsed().as_millis() as u64 });
    world.count(|tally| {
        tally.polls = tasks.polls();
        tally.ms = ms;
    });
    let round = Round {
        tally: world.tally(),
        trace: tasks.trace(),
        violation: world.violation(),
        story: world.story(),
    };
    world.end();
    tasks.clear();
    world.forget();
    round
}

fn plan(random: &SimRandom) -> Plan {
    let pace = 1 + random.below(2);
    let ms = |ms: u64| Duration::from_millis(ms * pace);
    Plan {
        members: [1, 3, 3, 3, 5][random.below(5) as usize],
        failover: if random.percent(50) { Failover::Automatic } else { Failover::Operator },
        election: (ms(150), ms(300)),
        heartbeat: ms(50),
        wal: wal::Options {
            segment_bytes: 3000 + random.below(12_000),
            reserve_bytes: random.below(3) * 1500,
            recent_bytes: random.below(2) as usize * 20_000,
            mistake: None,
        },
        lag: Duration::from_millis(random.below(4)),
        trouble: Duration::from_millis(1500 + random.below(3000)),
        faults: u64::MAX,
        pause_ms: 50 + random.below(300),
        pace_ms: 20 + random.below(120),
        readers: false,
        mistake: None,
        begun: tokio::time::Instant::now(),
    }
}

/// So many troubles a round has at most, as far as looking for the least is concerned.
const MOST_TROUBLES: u64 = 200;

/// The round of this seed with the fewest troubles that still breaks this invariant.
pub fn least(seed: u64, mistake: Option<Mistake>, invariant: &str) -> Round {
    let breaks = |round: &Round| round.violation.as_ref().is_some_and(|found| found.invariant == invariant);
    let fewer = (0..MOST_TROUBLES).map(|faults| cluster_round(seed, mistake, Some(faults)));
    fewer.into_iter().find(breaks).unwrap_or_else(|| cluster_round(seed, mistake, None))
}
