//! The network between members: messages wait, get lost, come twice and overtake each other; a way can
//! be cut in one direction.

use super::world::World;
use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use log::cluster::{Member, Transport, TransportError};
use rt::{Process, SimTasks};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::sync::oneshot;
use types::NodeId;

type Answer = Result<Bytes, TransportError>;

/// How the network is at the moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weather {
    /// Ways that are cut: from, to.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    /// A message takes up to so long.
    pub delay_ms: u64,
    /// So many in 100 are lost.
    pub lost: u64,
    /// So many in 100 come twice.
    pub doubled: u64,
}

/// The door of one member to the others.
pub(crate) struct Line {
    pub world: Arc<World>,
    pub from: NodeId,
    /// In which of its lives.
    pub process: Process,
}

impl Transport for Line {
    fn call(
        &self,
        to: NodeId,
        _member: &Member,
        message: Bytes,
        _patience: Duration,
    ) -> BoxFuture<'static, Answer> {
        let (world, from, sender) = (Arc::clone(&self.world), self.from, self.process);
        async move {
            world.note(fingerprint(&message) ^ (number(from) << 8) ^ number(to));
            let (tell, told) = oneshot::channel();
            let Some(fates) = world.fates(from, to) else {
                return world.silence(tell, told).await;
            };
            let mut tell = Some(tell);
            let doubled = fates.len() > 1;
            for (place, delay) in fates.into_iter().enumerate() {
                // The first copy's answer is the one that counts.
                let tell = if place == 0 { tell.take() } else { None };
                let (world, message) = (Arc::clone(&world), message.clone());
                in_world(async move {
                    tokio::time::sleep(Duration::from_millis(delay)).await;
                    deliver(&world, (from, sender), to, message, tell);
                });
            }
            world.count(|tally| {
                tally.messages += 1;
                tally.doubled += u64::from(doubled);
            });
            told.await.unwrap_or_else(|_| Err(TransportError::Lost("no answer came".into())))
        }
        .boxed()
    }
}

/// A small number of a node, for people: of those that were given an id by the log, likely another for each.
pub(crate) fn number(node: NodeId) -> u64 {
    node.as_u128() as u64 % 1000
}

fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

/// A task of the world outside, from whichever process.
fn in_world(future: impl Future<Output = ()> + 'static) {
    if let Some(tasks) = SimTasks::here() {
        tasks.spawn_in(Process::default(), future);
    }
}

fn deliver(
    world: &Arc<World>,
    (from, sender): (NodeId, Process),
    to: NodeId,
    message: Bytes,
    tell: Option<oneshot::Sender<Answer>>,
) {
    let Some((process, log)) = world.running(to) else {
        if let Some(tell) = tell {
            let _gone = tell.send(Err(TransportError::Unreachable("nobody listens".into())));
        }
        return;
    };
    let world = Arc::clone(world);
    let Some(tasks) = SimTasks::here() else { return };
    tasks.spawn_in(process, async move {
        let answer = log.receive(message).await;
        world.heard((from, sender), to, &answer);
        let Some(tell) = tell else { return };
        match world.fates(to, from).as_deref() {
            Some([delay, ..]) => {
                let delay = Duration::from_millis(*delay);
                in_world(async move {
                    tokio::time::sleep(delay).await;
                    let _gone = tell.send(answer);
                });
            }
            _ => world.keep_silent(tell),
        }
    });
}
