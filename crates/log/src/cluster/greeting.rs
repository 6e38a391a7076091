//! A member that starts tells all others, so that an older copy of its directory is known for one by each.

use super::{
    promotion::Position,
    shape::{Member, Shape},
    transport::{Message, Network, NotHeard, TransportError, heard_from},
};
use openraft::{Raft, async_runtime::watch::WatchReceiver as _};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use types::NodeId;

/// Tells every other member that this life of this one has begun, and asks until each has answered. Never
/// ends.
pub(super) async fn greet(raft: Raft<Shape, super::adapter::Machine>, network: Network, pause: Duration) {
    let mut greeted = Greeted::default();
    loop {
        let members = raft.metrics().borrow_watched().membership_config.membership().clone();
        greeted.round(&network, members.nodes(), pause).await;
        tokio::time::sleep(pause).await;
    }
}

/// Who need not be told again.
#[derive(Default)]
struct Greeted {
    done: BTreeSet<NodeId>,
    /// Why others did not take it so far: said once each.
    said: BTreeMap<NodeId, String>,
}

impl Greeted {
    /// Tells whoever of these has not answered yet, and waits `pause` for each at most.
    async fn round<'a>(
        &mut self,
        network: &Network,
        members: impl Iterator<Item = (&'a NodeId, &'a Member)>,
        pause: Duration,
    ) {
        let own = network.log.node();
        let silent = members.filter(|(id, _)| **id != own && !self.done.contains(*id));
        let asked = silent.map(|(id, member)| {
            let message = Message::Position.write(&network.log, &());
            let call = network.transport.call(*id, member, message, pause);
            async move { (*id, tokio::time::timeout(pause, call).await) }
        });
        for (id, answer) in futures_util::future::join_all(asked).await {
            let heard = match answer {
                Ok(Ok(bytes)) => heard_from::<Position>(&network.log, id, &bytes).await,
                Ok(Err(error)) => Err(error.into()),
                Err(_late) => continue,
            };
            match heard {
                // Refused as an older copy it ends, and is not heard in this life.
                Ok(_) | Err(NotHeard::Refused(_)) => drop(self.done.insert(id)),
                // It may be repairing its log, or have too much to do.
                Err(error) => self.not_taken(id, error.into()),
            }
        }
    }

    fn not_taken(&mut self, by: NodeId, error: TransportError) {
        let TransportError::Refused(why) = error else { return };
        if self.said.get(&by) != Some(&why) {
            tracing::warn!(%by, why, "another member does not take the greeting of this one yet");
            self.said.insert(by, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::transport::{self, Transport},
        *,
    };
    use crate::wal::{Has, Incarnation, MemberLog, Options, Wal};
    use bytes::Bytes;
    use futures_util::{FutureExt as _, future::BoxFuture};
    use rt::{Disk, SimDisk, ThreadSpawner};
    use std::{
        path::Path,
        sync::{Arc, Mutex},
    };
    use types::{ByteSize, Epoch, Index, Term};

    const DIR: &str = "/log";
    const PAUSE: Duration = Duration::from_secs(5);

    fn id(number: u128) -> NodeId {
        NodeId::from_u128(number)
    }

    fn open(number: u128) -> Arc<MemberLog> {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        Wal::create_member(&disk, Path::new(DIR), "greetings", id(number)).expect("creates");
        let (options, fatal) = (Options::default(), Box::new(|_: &rt::DiskError| {}));
        let dir = Path::new(DIR);
        let opened = MemberLog::open(disk, dir, options, Bytes::new(), number, &ThreadSpawner, fatal);
        Arc::new(opened.expect("opens").0)
    }

    /// The way to one other member, which first does not take what it is told, for these reasons.
    struct Way {
        other: Arc<MemberLog>,
        reasons: Mutex<Vec<&'static str>>,
        calls: Mutex<usize>,
    }

    impl Way {
        fn new(reasons: &[&'static str]) -> Arc<Self> {
            let (reasons, calls) = (Mutex::new(reasons.to_vec()), Mutex::new(0));
            Arc::new(Self { other: open(2), reasons, calls })
        }
    }

    impl Transport for Way {
        fn call(
            &self,
            _to: NodeId,
            _member: &Member,
            message: Bytes,
            _patience: Duration,
        ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
            *self.calls.lock().expect("no panics") += 1;
            if let Some(why) = self.reasons.lock().expect("no panics").pop() {
                return std::future::ready(Err(TransportError::Refused(why.into()))).boxed();
            }
            let other = Arc::clone(&self.other);
            let position = Position {
                last: None,
                committed: Index::ZERO,
                epoch: Epoch::ZERO,
                term: Term::ZERO,
                leads: false,
                fenced: false,
                short_of_space: false,
            };
            async move {
                match Message::read(&other, &message).await {
                    Ok(_) => Ok(transport::answer(&other, &position)),
                    Err(error) => transport::refusal(&other, error),
                }
            }
            .boxed()
        }
    }

    async fn rounds(log: &Arc<MemberLog>, way: &Arc<Way>, count: usize) -> Greeted {
        let transport: Arc<dyn Transport> = way.clone();
        let network = Network { transport, log: Arc::clone(log), catch_up: ByteSize::from_mib(1) };
        let members = [(id(1), Member::default()), (id(2), Member::default())];
        let mut greeted = Greeted::default();
        for _ in 0..count {
            greeted.round(&network, members.iter().map(|(id, member)| (id, member)), PAUSE).await;
        }
        greeted
    }

    #[tokio::test]
    async fn who_does_not_take_a_greeting_yet_is_greeted_again() {
        let reasons = ["3 requests are under way", "its log is being repaired", "it cannot be noted"];
        let (log, way) = (open(1), Way::new(&reasons));
        let greeted = rounds(&log, &way, 6).await;
        assert_eq!(greeted.done, BTreeSet::from([id(2)]));
        assert_eq!(*way.calls.lock().expect("no panics"), 4, "and no more once it has answered");
        let own = log.lives().own();
        assert_eq!(way.other.lives().known(id(1), own), Some(Ok(())), "this life is known");
    }

    #[tokio::test]
    async fn who_refuses_an_older_copy_is_asked_no_more() {
        let (log, way) = (open(1), Way::new(&[]));
        let later = Incarnation { count: 9, nonce: 9 };
        assert_eq!(way.other.lives().admit(id(1), later, Has::default()), Ok(()));
        let greeted = rounds(&log, &way, 3).await;
        assert_eq!(greeted.done, BTreeSet::from([id(2)]));
        assert_eq!(*way.calls.lock().expect("no panics"), 1);
    }
}
