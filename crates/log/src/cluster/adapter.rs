//! The adapter: our log as openraft's storage, and what is committed as its state machine.
//!
//! Duties, and where they are kept:
//!
//! - An appended entry can be read at once and counts only when it is durable: [`MemberLog::append`].
//! - A vote is durable before it is answered: [`MemberLog::save_vote`]. Whether a vote had won is not
//!   kept, so a restarted leader is elected again and never simply resumes.
//! - What is committed becomes visible in order: [`MemberLog::commit`]. The state machine is nothing
//!   else; folding events is the business of whoever reads them.
//! - Nothing is ever purged: what is behind a snapshot is in the archive, and a member that is far
//!   behind is fed from there, entry by entry. So every member can fold every view from event 1, and
//!   no snapshot ever travels.

use super::shape::{Applied, Candidate, Leader, Member, Placed, Shape, decode_members, log_id, ours};
use crate::{
    Kind,
    wal::{Committed, Halted, MemberLog, RawEntry, Vote},
};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use openraft::{
    EntryPayload, LogId, Membership, OptionalSend, RaftLogReader, RaftSnapshotBuilder, StoredMembership,
    alias::{SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf},
    storage::{EntryResponder, IOFlushed, LogState, RaftLogStorage, RaftStateMachine},
};
use rt::Boundary;
use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds, RangeInclusive},
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::oneshot;
use types::{Index, NodeId, Term};

/// So many bytes of entries are read for another member, or to be applied, at once.
const SEND_BYTES: usize = 2 << 20;
/// After so many entries it is noted how far the log is committed, so that a member that is stopped in
/// a long catch-up does not begin it anew.
const NOTE_EVERY: u64 = 4096;

/// openraft's storage over a member's log.
#[derive(Clone, Debug)]
pub struct Storage {
    log: Arc<MemberLog>,
    /// The vote with what only memory knows of it: whether it has won.
    vote: Arc<Mutex<Option<VoteOf<Shape>>>>,
}

fn broken(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// Waits for the writer.
async fn done(start: impl FnOnce(crate::wal::Done)) -> Result<(), io::Error> {
    let (tell, told) = oneshot::channel();
    start(Box::new(move |result: Result<(), Halted>| {
        let _gone = tell.send(result);
    }));
    told.await.map_err(|_| broken(Halted))?.map_err(broken)
}

impl Storage {
    /// The storage over this log.
    pub fn new(log: Arc<MemberLog>) -> Self {
        let vote = log.vote();
        let leader_id = |node| Candidate { term: vote.term.get(), node };
        let vote = vote.voted_for.map(|node| openraft::Vote { leader_id: leader_id(node), committed: false });
        Self { log, vote: Arc::new(Mutex::new(vote)) }
    }

    /// Takes its own vote of the last term for one that has won, if it wrote entries in that term.
    pub(super) fn resume(&self) -> Result<(), io::Error> {
        let newest = self.log.newest();
        let last = self.log.entries(newest, newest.next(), 1).map_err(broken)?.pop();
        let mut vote = self.vote();
        if let (Some(vote), Some((_, last))) = (vote.as_mut(), last) {
            let own = last.leader == self.log.node() && vote.leader_id.node == last.leader;
            vote.committed = own && vote.leader_id.term == last.term.get();
        }
        Ok(())
    }

    fn vote(&self) -> MutexGuard<'_, Option<VoteOf<Shape>>> {
        self.vote.lock().expect("nobody panics while holding this")
    }

    async fn entries(&self, from: Index, until: Index, bytes: usize) -> Result<Vec<Placed>, io::Error> {
        // From memory nearly always; from disk for those who are behind.
        let found = match self.log.hot_entries(from, until, bytes) {
            Some(found) => found,
            None => {
                let log = Arc::clone(&self.log);
                let found = rt::blocking(move || {
                    // What cannot be read ends consensus, and the process with it.
                    log.entries(from, until, bytes).inspect_err(|error| log.note_damage(error))
                });
                found.await.map_err(broken)?.map_err(broken)?
            }
        };
        found.into_iter().map(|(index, raw)| Placed::from_raw(index, raw).map_err(broken)).collect()
    }
}

/// The range in our counting: from, and up to without.
fn range_of(range: &impl RangeBounds<u64>) -> (Index, Index) {
    let from = match range.start_bound() {
        Bound::Included(at) => ours(*at),
        Bound::Excluded(at) => ours(*at + 1),
        Bound::Unbounded => Index::new(1),
    };
    let until = match range.end_bound() {
        Bound::Included(at) => ours(*at + 1),
        Bound::Excluded(at) => ours(*at),
        Bound::Unbounded => Index::new(u64::MAX),
    };
    (from, until)
}

impl RaftLogReader<Shape> for Storage {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Placed>, io::Error> {
        let (mut from, until) = range_of(&range);
        let mut all = Vec::new();
        while from < until {
            let more = self.entries(from, until, SEND_BYTES).await?;
            let Some(last) = more.last() else { break };
            from = ours(last.id.index).next();
            all.extend(more);
        }
        Ok(all)
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<Shape>>, io::Error> {
        Ok(*self.vote())
    }

    /// A piece at a time: a member that was away may have all of history to apply.
    async fn entries_stream<R>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = Result<Placed, io::Error>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, until) = range_of(&range);
        let storage = self.clone();
        let pieces = stream::try_unfold(from, move |from| {
            let storage = storage.clone();
            async move {
                if from >= until {
                    return Ok::<_, io::Error>(None);
                }
                let piece = storage.entries(from, until, SEND_BYTES).await?;
                let next = piece.last().map(|last| ours(last.id.index).next());
                Ok(next.map(|next| (stream::iter(piece.into_iter().map(Ok)), next)))
            }
        });
        pieces.try_flatten()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Placed>, io::Error> {
        self.entries(ours(start), ours(end), SEND_BYTES).await
    }

    /// The last entry of each leader: the page of openraft 0.10.0-alpha.37 says the first, its code and
    /// its suite want the last.
    async fn get_key_log_ids(
        &mut self,
        range: RangeInclusive<LogId<Leader>>,
    ) -> Result<Vec<LogId<Leader>>, io::Error> {
        let (first, last) = (ours(range.start().index), ours(range.end().index));
        let log = Arc::clone(&self.log);
        let found = rt::blocking(move || log.leaders(first, last)).await.map_err(broken)?;
        let firsts = found.map_err(broken)?;
        let next = firsts.iter().skip(1).map(|(index, ..)| *index).chain([last.next()]);
        let lasts = firsts
            .iter()
            .zip(next)
            .filter_map(|((_, term, leader), next)| log_id(Index::new(next.get() - 1), *term, *leader));
        Ok(lasts.collect())
    }
}

impl RaftLogStorage<Shape> for Storage {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Shape>, io::Error> {
        let index = self.log.newest();
        let last = if index > Index::ZERO {
            self.entries(index, index.next(), 1).await?.pop().map(|entry| entry.id)
        } else {
            None
        };
        Ok(LogState { last_purged_log_id: None, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Shape>) -> Result<(), io::Error> {
        let Candidate { term, node } = vote.leader_id;
        let stored = Vote { term: Term::new(term), voted_for: Some(node) };
        // That it has won is for memory only: a restarted leader is elected again.
        let known = self.vote().is_some_and(|known| known.leader_id == vote.leader_id);
        if !known {
            let own = node == self.log.node();
            if own { Boundary::VoteOwn } else { Boundary::VoteGiven }.reached();
            done(|told| self.log.save_vote(stored, told)).await?;
            if own { Boundary::VoteOwnDurable } else { Boundary::VoteGivenDurable }.reached();
        }
        *self.vote() = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Shape>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Placed> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut next = self.log.newest().next();
        let mut raw = Vec::new();
        for entry in entries {
            if ours(entry.id.index) != next {
                return Err(broken(format!("entry {} was given where {next} must follow", entry.id)));
            }
            next = next.next();
            raw.push(entry.to_raw().map_err(broken)?);
        }
        let opens = raw.iter().rfind(|entry: &&RawEntry| entry.kind == Kind::Epoch);
        let opens = opens.map(|entry| entry.leader == self.log.node());
        if opens == Some(true) {
            Boundary::EpochAppended.reached();
        }
        let told = move |result: Result<(), Halted>| {
            match opens {
                Some(true) => Boundary::EpochDurable.reached(),
                Some(false) => Boundary::EpochCopied.reached(),
                None => {}
            }
            callback.io_completed(result.map_err(broken));
        };
        self.log.append(raw, Box::new(told)).map_err(broken)
    }

    async fn truncate_after(&mut self, last: Option<LogId<Leader>>) -> Result<(), io::Error> {
        let last = last.map_or(Index::ZERO, |id| ours(id.index));
        done(|told| self.log.cut(last, told)).await
    }

    async fn purge(&mut self, id: LogId<Leader>) -> Result<(), io::Error> {
        // Asked for only after a snapshot, and there are none.
        Err(broken(format!("asked to forget entries up to {id}, which are for ever")))
    }
}

/// What is committed, as openraft's state machine.
#[derive(Clone)]
pub struct Machine {
    log: Arc<MemberLog>,
    members: Arc<Mutex<StoredMembershipOf<Shape>>>,
    watch: Arc<dyn Fn(Seen) + Send + Sync>,
}

/// What the state machine has come by, for whoever wants to know.
#[derive(Clone, Debug)]
pub enum Seen {
    /// An epoch was opened.
    Epoch {
        /// The entry that opened it.
        id: LogId<Leader>,
        /// Who sequences in it.
        node: NodeId,
    },
}

impl Machine {
    /// The state machine over this log. `watch` is told of every epoch as it is committed; it must not block.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn new(
        log: Arc<MemberLog>,
        watch: Arc<dyn Fn(Seen) + Send + Sync>,
    ) -> Result<Self, crate::ReadError> {
        let members = match log.members() {
            Some((index, term, leader, payload)) => {
                let members = decode_members(&payload).map_err(|why| crate::ReadError::Damaged {
                    path: log.dir(),
                    offset: 0,
                    why,
                })?;
                StoredMembership::new(log_id(index, term, leader), members)
            }
            None => StoredMembership::default(),
        };
        Ok(Self { log, members: Arc::new(Mutex::new(members)), watch })
    }

    /// Who is a member, as far as is committed.
    pub fn members(&self) -> Membership<NodeId, Member> {
        self.members.lock().expect("nobody panics while holding this").membership().clone()
    }

    /// Waits until an entry is durable here as well: others may have made a majority without us.
    async fn commit(&self, index: Index) -> Result<Applied, io::Error> {
        let applied = |committed: Committed| Applied { last: committed.head.event, events: committed.events };
        if let Some(committed) = self.log.commit(index) {
            return Ok(applied(committed));
        }
        let mut durable = self.log.durable();
        durable.wait_for(|at| *at >= index).await.map_err(|_| broken(Halted))?;
        self.log.commit(index).map(applied).ok_or_else(|| broken("what is durable can be committed"))
    }

    /// Beside the thread of consensus, which must go on while a disk takes its time. Without space only a
    /// shortcut is lost: consensus commits anew what is not noted.
    async fn note_committed(&self) -> Result<(), io::Error> {
        let log = Arc::clone(&self.log);
        match rt::blocking(move || log.note_committed()).await.map_err(broken)? {
            Err(error) if error.is_no_space() => {
                tracing::warn!(%error, "how far the log is committed could not be noted");
                Ok(())
            }
            result => result.map_err(broken),
        }
    }

    async fn note(&self, entry: &Placed) -> Result<(), io::Error> {
        match &entry.payload {
            EntryPayload::Membership(members) => {
                let stored = StoredMembership::new(Some(entry.id), members.clone());
                self.note_committed().await?;
                *self.members.lock().expect("nobody panics while holding this") = stored;
            }
            EntryPayload::Normal(data) if data.code == Kind::Epoch.code() => {
                if let Some((node, _)) = crate::wal::read_epoch(&data.payload) {
                    let own = node == self.log.node();
                    if own { Boundary::EpochCommitted } else { Boundary::EpochLearned }.reached();
                    // Who may stand again after a restart, must be known at the restart.
                    self.note_committed().await?;
                    (self.watch)(Seen::Epoch { id: entry.id, node });
                }
            }
            EntryPayload::Normal(_) | EntryPayload::Blank => {}
        }
        Ok(())
    }
}

impl RaftStateMachine<Shape> for Machine {
    type SnapshotData = io::Cursor<Vec<u8>>;
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<Leader>>, StoredMembershipOf<Shape>), io::Error> {
        let index = self.log.head().index;
        let applied = if index > Index::ZERO {
            let entry = self.log.entries(index, index.next(), 1).map_err(broken)?.pop();
            entry.and_then(|(index, raw)| log_id(index, raw.term, raw.leader))
        } else {
            None
        };
        let members = self.members.lock().expect("nobody panics while holding this").clone();
        Ok((applied, members))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Shape>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let applied = self.commit(ours(entry.id.index)).await?;
            // Readers first, so that whoever is answered can read what was written.
            self.log.announce();
            self.note(&entry).await?;
            if entry.id.index % NOTE_EVERY == 0 {
                self.note_committed().await?;
            }
            if let Some(responder) = responder {
                responder.send(applied);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMetaOf<Shape>,
        _data: Self::SnapshotData,
    ) -> Result<(), io::Error> {
        Err(broken("snapshots do not travel between members; entries do"))
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<Shape, Self::SnapshotData>>, io::Error> {
        Ok(None)
    }
}

impl RaftSnapshotBuilder<Shape> for Machine {
    type SnapshotData = io::Cursor<Vec<u8>>;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Shape, Self::SnapshotData>, io::Error> {
        Err(broken("snapshots are made from the log's events, not by the consensus layer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::{Options, RawEntry, Wal};
    use bytes::Bytes;
    use rt::{Disk, SimDisk, ThreadSpawner};
    use std::path::Path;

    fn open(disk: &SimDisk) -> Arc<MemberLog> {
        let fatal = Box::new(|_: &rt::DiskError| {});
        let (disk, dir): (Arc<dyn Disk>, _) = (Arc::new(disk.clone()), Path::new("/log"));
        let opened = MemberLog::open(disk, dir, Options::default(), Bytes::new(), 0, &ThreadSpawner, fatal);
        Arc::new(opened.expect("opens").0)
    }

    #[test]
    fn a_long_catch_up_that_is_cut_short_does_not_begin_anew() {
        let disk = SimDisk::new(1);
        let node = NodeId::from_u128(1);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        Wal::create_member(&shared, Path::new("/log"), "far behind", node).expect("creates");
        let log = open(&disk);
        let blank = RawEntry { kind: Kind::Blank, term: Term::new(1), leader: node, payload: Bytes::new() };
        let count = NOTE_EVERY + 10;
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let done = Box::new(move |result| tell.send(result).expect("waited for"));
        log.append(vec![blank; count as usize], done).expect("in their form");
        assert_eq!(told.recv(), Ok(Ok(())));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut machine = Machine::new(Arc::clone(&log), Arc::new(|_| {})).expect("reads");
            let mut storage = Storage::new(Arc::clone(&log));
            let entries = storage.entries_stream(0..count).await;
            let entries = entries.map_ok(|entry| (entry, None));
            machine.apply(Box::pin(entries)).await.expect("applied");
        });
        assert_eq!(log.head().index.get(), count);
        disk.restart();
        drop(log);
        assert!(open(&disk).head().index.get() >= NOTE_EVERY, "what was noted on the way");
    }
}
