//! One round: a machine that lives several lives on one bad disk.

use crate::{
    history::{Answered, History, Violation},
    invariants::{acked_is_durable, append_only, gapless_order},
    workload,
};
use control::{Outcome, Proposal, Sequencer};
use domain::{State, codec};
use log::{
    Record,
    wal::{self, Entry, GroupError, Mistake, OpenError, Options, Wal},
};
use rt::{Disk, Fault, Operation, Random, SimDisk, SimRandom};
use std::{path::Path, sync::Arc};
use types::{DurationMs, EventId, NodeId, Timestamp};

const DIR: &str = "/log";

/// What happened in a round, so that a test can see that it was worth running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Times the process was killed or the power went.
    pub crashes: u64,
    /// Of these, during recovery.
    pub crashes_in_recovery: u64,
    /// Recoveries that cut a torn tail.
    pub tails_cut: u64,
    /// Events acknowledged.
    pub acked: u64,
    /// Appends refused for lack of space.
    pub no_space: u64,
    /// Appends with an unknown outcome.
    pub unknown: u64,
    /// Of these, found to be there afterwards.
    pub unknown_kept: u64,
    /// Segments sealed.
    pub sealed: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.crashes_in_recovery += other.crashes_in_recovery;
        self.tails_cut += other.tails_cut;
        self.acked += other.acked;
        self.no_space += other.no_space;
        self.unknown += other.unknown;
        self.unknown_kept += other.unknown_kept;
        self.sealed += other.sealed;
    }
}

/// Runs the rounds of these seeds, until one breaks an invariant: then its seed and what it broke.
pub fn rounds(seeds: std::ops::Range<u64>, mistake: Option<Mistake>) -> Result<Tally, (u64, Violation)> {
    let mut sum = Tally::default();
    for seed in seeds {
        sum.add(&round(seed, mistake).map_err(|violation| (seed, violation))?);
    }
    Ok(sum)
}

/// Runs one round.
pub fn round(seed: u64, mistake: Option<Mistake>) -> Result<Tally, Violation> {
    let random = SimRandom::new(seed);
    let disk = SimDisk::new(random.u64());
    let options = Options {
        segment_bytes: 1500 + random.below(8000),
        reserve_bytes: random.below(3) * 1500,
        recent_bytes: random.below(2) as usize * 20_000,
        mistake,
    };
    let mut machine = Machine {
        disk,
        random,
        options,
        history: History::default(),
        sent: Vec::new(),
        now: Timestamp::from_ms(1_800_000_000_000),
        in_doubt: None,
        tally: Tally::default(),
    };
    machine.create()?;
    for _ in 0..3 + machine.random.below(4) {
        let Some((wal, state)) = machine.start()? else { continue };
        machine.live(wal, state)?;
    }
    // The last start is undisturbed: whatever was promised must be there now.
    machine.disk.clear_faults();
    machine.disk.set_capacity(None);
    machine.start_quietly()?;
    Ok(machine.tally)
}

/// The machine and everyone who remembers what it said.
struct Machine {
    disk: SimDisk,
    random: SimRandom,
    options: Options,
    history: History,
    sent: Vec<Proposal>,
    now: Timestamp,
    /// An append whose outcome is unknown, and the head it would have led to.
    in_doubt: Option<EventId>,
    tally: Tally,
}

/// Why a life ended.
enum End {
    /// The disk failed: the process ends itself.
    Died,
    /// Somebody else ended it.
    Killed,
    /// It stopped in good order.
    Stopped,
}

impl Machine {
    fn create(&mut self) -> Result<(), Violation> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        if self.random.percent(30) {
            self.disk.fail_in(1 + self.random.below(25), Fault::Crash);
        }
        while Wal::create(&disk, Path::new(DIR), "sim", NodeId::from_u128(1)).is_err() {
            // Creating can be repeated until it has happened.
            self.disk.restart();
            if Wal::exists(&*disk, Path::new(DIR)).is_ok_and(|exists| exists) {
                break;
            }
            self.tally.crashes += 1;
        }
        self.disk.clear_faults();
        Ok(())
    }

    /// Starts the process, perhaps with a crash on the way; then there is nothing to live.
    fn start(&mut self) -> Result<Option<(Wal, State)>, Violation> {
        if self.random.percent(25) {
            self.disk.fail_in(1 + self.random.below(30), Fault::Crash);
            let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
            let opened = Wal::open(disk, Path::new(DIR), self.options);
            if let Err(error) = &opened
                && !matches!(error, OpenError::Disk(_))
            {
                return Err(Violation::new("recovery", format!("refuses to start: {error}")));
            }
            drop(opened);
            self.tally.crashes += 1;
            self.tally.crashes_in_recovery += 1;
            self.disk.restart();
        }
        self.start_quietly().map(Some)
    }

    /// Starts, reads everything, and holds it against everything that was ever said.
    fn start_quietly(&mut self) -> Result<(Wal, State), Violation> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let (wal, recovered) = Wal::open(disk, Path::new(DIR), self.options)
            .map_err(|error| Violation::new("recovery", format!("refuses to start: {error}")))?;
        self.tally.tails_cut += u64::from(recovered.dropped.is_some());
        let records = self.read_all(&wal)?;
        append_only::check(&self.history, &records)?;
        let state = fold(&records)?;
        let snapshot = self.load_snapshot(&wal)?;
        acked_is_durable::check(&self.history, &state, snapshot)?;
        if let Some(doubtful) = self.in_doubt.take() {
            self.tally.unknown_kept += u64::from(wal.head().event >= doubtful);
        }
        if self.random.percent(10) {
            let report = wal::verify(&self.disk, Path::new(DIR));
            let report = report.map_err(|error| Violation::new("verify", error.to_string()))?;
            if !report.is_good() {
                return Err(Violation::new("verify", format!("{:?}", report.problems)));
            }
        }
        self.history.saw(&records);
        Ok((wal, state))
    }

    fn read_all(&self, wal: &Wal) -> Result<Vec<Record>, Violation> {
        let pages = 1 + self.random.below(300);
        gapless_order::read_all(
            wal.head(),
            |after, max| wal.read(after, max),
            || 1 + self.random.below(pages) as usize,
        )
    }

    fn load_snapshot(&self, wal: &Wal) -> Result<EventId, Violation> {
        match wal.load_snapshot() {
            Ok(None) => Ok(EventId::ZERO),
            Ok(Some((at, content))) if content == snapshot_content(at) => Ok(at),
            Ok(Some((at, _))) => {
                Err(Violation::new("snapshot", format!("the one at {at} has other content")))
            }
            Err(error) => Err(Violation::new("snapshot", error.to_string())),
        }
    }

    /// One life, from a start to its end.
    fn live(&mut self, mut wal: Wal, state: State) -> Result<(), Violation> {
        self.plan_faults();
        let mut sequencer = Sequencer::new(state.clone(), wal.head().epoch);
        let mut durable = state;
        let end = loop {
            self.now = self.now.plus(DurationMs::from_ms(self.random.below(2000)));
            let end = match self.random.below(100) {
                0..80 => self.append(&mut wal, &mut sequencer, &mut durable)?,
                80..90 => self.snapshot(&wal)?,
                90..93 => {
                    let records = match wal.read(EventId::ZERO, usize::MAX) {
                        Ok(records) => records,
                        Err(_) if !self.disk.is_powered() => break End::Killed,
                        Err(log::ReadError::Disk(_)) => break End::Killed,
                        Err(error) => return Err(Violation::new(gapless_order::NAME, error.to_string())),
                    };
                    append_only::check(&self.history, &records)?;
                    self.history.saw(&records);
                    None
                }
                93..95 => match wal.open_epoch(NodeId::from_u128(1), "another life") {
                    Ok(epoch) => {
                        sequencer = Sequencer::new(durable.clone(), epoch);
                        None
                    }
                    Err(GroupError::NoSpace(_)) => None,
                    Err(_) => Some(End::Died),
                },
                95..97 => Some(End::Stopped),
                _ => Some(End::Killed),
            };
            if let Some(end) = end {
                break end;
            }
        };
        self.end(wal, &end);
        Ok(())
    }

    fn plan_faults(&self) {
        self.disk.set_capacity(None);
        match self.random.below(10) {
            0..5 => self.disk.fail_in(1 + self.random.below(120), Fault::Crash),
            5 => self.disk.fail_next(Operation::Sync, Fault::Io),
            6 => self.disk.fail_in(1 + self.random.below(120), Fault::Io),
            7 => self.disk.fail_in(1 + self.random.below(120), Fault::NoSpace),
            8 => self.disk.set_capacity(Some(self.disk.used() + self.random.below(6000))),
            _ => {}
        }
    }

    /// Lets the sequencer decide one or more batches, one on top of the other, and appends them as
    /// one group.
    fn append(
        &mut self,
        wal: &mut Wal,
        sequencer: &mut Sequencer,
        durable: &mut State,
    ) -> Result<Option<End>, Violation> {
        let (mut entries, mut answers) = (Vec::new(), Vec::new());
        let mut after = durable.clone();
        for _ in 0..=self.random.below(3) {
            let proposals = workload::proposals(&after, &self.random, self.now, &mut self.sent);
            let decided = sequencer.decide(&proposals, self.now, || self.random.u128());
            assert_eq!(decided.outcomes.len(), proposals.len(), "so few proposals fit one batch");
            answers.extend(proposals.into_iter().zip(decided.outcomes));
            after = decided.state;
            if !decided.batch.events.is_empty() {
                entries.push(Entry::Batch(decided.batch));
            }
        }
        let mut placed = Vec::new();
        match wal.append_group(&entries, &mut placed) {
            Ok(()) => {
                if let Some(last) = placed.last() {
                    self.history.acked = last.last;
                }
                self.tally.acked += after.head.get() - durable.head.get();
                *durable = after;
                let stands = |(proposal, outcome): (Proposal, Outcome)| {
                    let stands = proposal.request.is_some() && in_log(&outcome);
                    stands.then_some(Answered { proposal, outcome })
                };
                self.history.answered.extend(answers.into_iter().filter_map(stands));
                Ok(None)
            }
            Err(GroupError::NoSpace(_)) => {
                self.tally.no_space += 1;
                sequencer.reset(durable.clone());
                if wal.head().event != durable.head {
                    return Err(Violation::new(append_only::NAME, "a refused append moved the head"));
                }
                if self.random.percent(30) {
                    self.disk.set_capacity(None);
                }
                Ok(None)
            }
            Err(GroupError::Failed(_) | GroupError::Stopped) => {
                self.tally.unknown += 1;
                self.in_doubt = Some(after.head);
                let stopped = wal.append_group(&[Entry::Blank], &mut Vec::new());
                if !matches!(stopped, Err(GroupError::Stopped)) {
                    return Err(Violation::new(acked_is_durable::NAME, "appends go on after a failure"));
                }
                Ok(Some(End::Died))
            }
        }
    }

    fn snapshot(&mut self, wal: &Wal) -> Result<Option<End>, Violation> {
        let head = wal.head().event;
        let at = EventId::new(head.get() - self.random.below(head.get() + 1).min(40));
        let purged = wal.last_purged();
        let saved = wal.save_snapshot(at, Box::new(move |out| out.write_all(&snapshot_content(at))));
        if saved.is_ok() {
            self.history.snapshot = self.history.snapshot.max(at);
        }
        self.tally.sealed += u64::from(wal.last_purged() > purged);
        Ok((!self.disk.is_powered()).then_some(End::Killed))
    }

    /// The process ends, and the power with it, or not.
    fn end(&mut self, wal: Wal, end: &End) {
        if matches!(end, End::Stopped) {
            // May fail like everything else; then it is as after a crash.
            let _best_effort = wal.close();
        } else {
            drop(wal);
            self.tally.crashes += 1;
        }
        if self.disk.is_powered() && self.random.percent(40) {
            self.disk.kill();
        } else {
            self.disk.restart();
        }
        self.disk.set_capacity(None);
    }
}

/// Whether the answer was drawn from the log, so that it must be the same for ever.
fn in_log(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Executed { .. } => true,
        Outcome::Refused { event, .. } => event.is_some(),
    }
}

fn snapshot_content(at: EventId) -> Vec<u8> {
    format!("the state at {at};").repeat(1 + at.get() as usize % 60).into_bytes()
}

fn fold(records: &[Record]) -> Result<State, Violation> {
    let mut state = State::default();
    for record in records {
        let envelope = codec::decode(record.id, record.epoch, &record.bytes)
            .map_err(|error| Violation::new(append_only::NAME, format!("event {}: {error}", record.id)))?;
        state.apply(&envelope);
    }
    Ok(state)
}
