//! Clusters of one, three and five members on simulated time, network and disks.
//!
//! ```text
//!   formed ──► trouble: crashes, cuts, pauses, … ──────────────────────► all is well again ──► converged?
//!                 └─► in some, the majority is lost and recovered ──► trouble ─┘
//!      clients ask and read all along; every answer and every event read is remembered ──► held to it
//! ```
//!
//! Members come and go meanwhile: operators have the log say so, as people do, and whoever leads brings
//! consensus in step with it, as servers do.
//!
//! A round is one seed. Everything runs on one thread: the production log, consensus, sequencer and
//! state of each member as the tasks of a simulated process, which can be killed, stopped and started
//! again; the time is tokio's, paused, and moves when nobody has anything to do.

mod client;
mod cut_short;
mod disk;
mod fate;
mod life;
mod members;
mod net;
mod recovery;
mod slow_epoch;
mod tally;
mod told;
mod verdict;
mod world;

pub use cut_short::{Cut, CutShort, Victim, When, cut_short};
pub use slow_epoch::{SlowEpoch, slow_epoch};
pub use tally::Tally;
pub use told::{Asked, Call, Claim, Told};

use crate::Violation;
use log::{cluster::Failover, wal};
use rt::{SimRandom, SimTasks};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
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

/// Which of the troubles of a round befall it, by their numbers; all of them if this does not say.
pub type Only = Option<BTreeSet<u64>>;

/// How a round goes, as far as that is not left to the dice on the way.
#[derive(Clone, Debug)]
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
    /// Which troubles befall it.
    pub only: Only,
    /// Whether the majority is lost and recovered.
    pub loses: bool,
    /// About how long it is quiet between two.
    pub pause_ms: u64,
    /// About how long a client waits between two calls.
    pub pace_ms: u64,
    /// Whether many read at once, from anybody, also from who gets no turn.
    pub readers: bool,
    pub mistake: Option<Mistake>,
    pub begun: tokio::time::Instant,
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

/// Runs one round.
pub fn cluster_round(seed: u64, mistake: Option<Mistake>, only: &Only) -> Round {
    let planned = |random: &SimRandom| {
        let readers = [1, 2, 4].contains(&(seed % 5));
        let mut plan = Plan { only: only.clone(), readers, mistake, ..plan(random) };
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
    let begun = plan.begun;
    let world = Arc::new(World::new(plan, random.u64()));
    let tasks = SimTasks::new(random.u64());
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(tasks.run(what(Arc::clone(&world))));
    }));
    if ended.is_err() {
        world.violated(Violation::new("terminates", "a task never waits"));
    }
    let ms = runtime.block_on(async { begun.elapsed().as_millis() as u64 });
    world.count(|tally| {
        tally.polls = tasks.polls();
        tally.ms = ms;
        tally.disk_faults = world.disk_faults();
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
    let members = [1, 3, 3, 3, 5][random.below(5) as usize];
    Plan {
        members,
        loses: members > 1 && random.percent(20),
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
        only: None,
        pause_ms: 50 + random.below(300),
        pace_ms: 20 + random.below(120),
        readers: false,
        mistake: None,
        begun: tokio::time::Instant::now(),
    }
}

/// The round of this seed, with as few of its troubles as still break this invariant: the fewest from the
/// beginning on, and of these, none that it can do without. Says which they are.
pub fn least(seed: u64, mistake: Option<Mistake>, invariant: &str) -> (Vec<u64>, Round) {
    let run = |only: &BTreeSet<u64>| {
        let round = cluster_round(seed, mistake, &Some(only.clone()));
        let breaks = round.violation.as_ref().is_some_and(|found| found.invariant == invariant);
        breaks.then_some(round)
    };
    let whole = cluster_round(seed, mistake, &None);
    let first = (0..=whole.tally.troubles).find_map(|count| {
        let only = (0..count).collect();
        run(&only).map(|round| (only, round))
    });
    let Some((mut only, mut round)) = first else {
        return ((0..whole.tally.troubles).collect(), whole);
    };
    for trouble in only.clone() {
        let mut fewer = only.clone();
        fewer.remove(&trouble);
        if let Some(found) = run(&fewer) {
            (only, round) = (fewer, found);
        }
    }
    (only.into_iter().collect(), round)
}
