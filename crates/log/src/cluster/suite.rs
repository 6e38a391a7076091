//! openraft's own suite for storage, test by test, on our log in a directory of its own.
//!
//! The suite wants two things that a member never does, and gets them from stand-ins here: entries
//! that are forgotten ([`Forgetful`]; ours are for ever, so the adapter refuses), and a state machine
//! that is fed what is in no log ([`Fed`]; ours shows what its log has committed). The tests of
//! snapshots are left out for the same reason: none travels.

use super::{
    adapter::Storage,
    shape::{Applied, Leader, Placed, Shape},
};
use crate::wal::{MemberLog, Options, Wal};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use openraft::{
    EntryPayload, LogId, OptionalSend, RaftLogReader, RaftSnapshotBuilder, StorageError, StoredMembership,
    alias::{SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf},
    entry::RaftEntry as _,
    storage::{EntryResponder, IOFlushed, LogState, RaftLogStorage, RaftStateMachine},
    testing::log::{StoreBuilder, Suite},
};
use rt::{Disk, RealDisk, ThreadSpawner};
use std::{
    fmt::Debug,
    io,
    ops::{RangeBounds, RangeInclusive},
    pin::Pin,
    sync::Arc,
    sync::Mutex,
};
use types::{EventId, NodeId};

/// Our storage, with the entries before a mark hidden.
#[derive(Clone)]
struct Forgetful {
    storage: Storage,
    upto: Arc<Mutex<Option<LogId<Leader>>>>,
    /// Entries before this index are ours, to fill a gap.
    hidden: Arc<Mutex<u64>>,
}

impl RaftLogReader<Shape> for Forgetful {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Placed>, io::Error> {
        let upto = *self.upto.lock().expect("no panics");
        let mut found = self.storage.try_get_log_entries(range).await?;
        let hidden = *self.hidden.lock().expect("no panics");
        found.retain(|entry| upto.is_none_or(|upto| entry.id.index > upto.index));
        found.retain(|entry| entry.id.index >= hidden);
        Ok(found)
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<Shape>>, io::Error> {
        self.storage.read_vote().await
    }

    async fn get_key_log_ids(
        &mut self,
        range: RangeInclusive<LogId<Leader>>,
    ) -> Result<Vec<LogId<Leader>>, io::Error> {
        self.storage.get_key_log_ids(range).await
    }
}

impl RaftLogStorage<Shape> for Forgetful {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Shape>, io::Error> {
        let mut state = self.storage.get_log_state().await?;
        state.last_purged_log_id = *self.upto.lock().expect("no panics");
        state.last_log_id = state.last_log_id.max(state.last_purged_log_id);
        Ok(state)
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Shape>) -> Result<(), io::Error> {
        self.storage.save_vote(vote).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Shape>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Placed> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut entries: Vec<Placed> = entries.into_iter().collect();
        let first = entries.first().map_or(0, |entry| entry.id.index);
        let newest = self.storage.get_log_state().await?.last_log_id;
        if newest.is_none() && first > 0 {
            // Some of its tests begin behind the beginning.
            *self.hidden.lock().expect("no panics") = first;
            let blank = |index| Placed { id: LogId { index, ..entries[0].id }, payload: EntryPayload::Blank };
            entries = (0..first).map(blank).chain(entries.iter().cloned()).collect();
        }
        self.storage.append(entries, callback).await
    }

    async fn truncate_after(&mut self, last: Option<LogId<Leader>>) -> Result<(), io::Error> {
        self.storage.truncate_after(last).await
    }

    async fn purge(&mut self, id: LogId<Leader>) -> Result<(), io::Error> {
        *self.upto.lock().expect("no panics") = Some(id);
        Ok(())
    }
}

/// A state machine that takes what it is given.
#[derive(Clone, Default)]
struct Fed {
    applied: Option<LogId<Leader>>,
    members: StoredMembershipOf<Shape>,
}

impl RaftStateMachine<Shape> for Fed {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<Leader>>, StoredMembershipOf<Shape>), io::Error> {
        Ok((self.applied, self.members.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Shape>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.id);
            if let Some(members) = entry.get_membership() {
                self.members = StoredMembership::new(Some(entry.id), members);
            }
            if let Some(responder) = responder {
                responder.send(Applied { last: EventId::ZERO, events: 0 });
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, _: &SnapshotMetaOf<Shape>, (): ()) -> Result<(), io::Error> {
        Err(io::Error::other("none travels"))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Shape, ()>>, io::Error> {
        Ok(None)
    }
}

impl RaftSnapshotBuilder<Shape> for Fed {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Shape, ()>, io::Error> {
        let meta =
            SnapshotMetaOf::<Shape> { last_log_id: self.applied, last_membership: self.members.clone() };
        Ok(SnapshotOf::<Shape, ()> { meta, snapshot: () })
    }
}

struct Build;

impl StoreBuilder<Shape, Forgetful, Fed, tempfile::TempDir> for Build {
    async fn build(&self) -> Result<(tempfile::TempDir, Forgetful, Fed), StorageError<Shape>> {
        let dir = tempfile::tempdir().expect("a directory");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let path = dir.path().join("log");
        Wal::create_member(&disk, &path, "suite", NodeId::from_u128(1)).expect("created");
        let fatal = Box::new(|error: &rt::DiskError| panic!("{error}"));
        let opened = MemberLog::open(disk, &path, Options::default(), Bytes::new(), 0, &ThreadSpawner, fatal);
        let log = opened.expect("opens").0;
        let storage = Storage::new(Arc::new(log));
        Ok((dir, Forgetful { storage, upto: Arc::default(), hidden: Arc::default() }, Fed::default()))
    }
}

type Tests = Suite<Shape, Forgetful, Fed, Build, tempfile::TempDir>;

fn run<F, T>(test: F)
where
    F: FnOnce(Forgetful, Fed) -> T,
    T: Future<Output = Result<(), io::Error>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (_dir, storage, machine) = Build.build().await.expect("built");
        let test: Pin<Box<dyn Future<Output = _>>> = Box::pin(test(storage, machine));
        let patience = std::time::Duration::from_secs(3);
        tokio::time::timeout(patience, test).await.expect("it ends").expect("the suite's own words");
    });
}

macro_rules! suite {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            run(Tests::$name);
        }
    )*};
}

suite! {
    last_membership_in_log_initial last_membership_in_log last_membership_in_log_multi_step
    get_membership_initial get_membership_from_log_and_empty_sm get_membership_from_empty_log_and_sm
    get_membership_from_log_le_sm_last_applied get_membership_from_log_gt_sm_last_applied_1
    get_membership_from_log_gt_sm_last_applied_2 get_initial_state_without_init
    get_initial_state_membership_from_empty_log_and_sm
    get_initial_state_membership_from_sm_inlog_is_smaller
    get_initial_state_membership_from_log_insm_is_smaller get_initial_state_with_state
    get_initial_state_last_log_gt_sm get_initial_state_last_log_lt_sm
    get_initial_state_inverted_log_order get_initial_state_conflict_at_same_index
    get_initial_state_log_ids get_initial_state_re_apply_committed save_vote get_log_entries
    limited_get_log_entries leader_bounded_stream entries_stream try_get_log_entry
    log_reader_reads_new_entries initial_logs get_log_state get_log_id last_id_in_log last_applied_state
    purge_logs_upto_0 purge_logs_upto_5 purge_logs_upto_20 delete_logs_after_11 delete_logs_after_5
    delete_logs_after_0 delete_logs_after_none append_to_log
    apply_single apply_multiple
}
