//! Who is a member, and operators who change that, also at the worst moment.
//!
//! ```text
//!   operator ─► the log says who was let in and who was removed ─► whoever leads brings consensus in step
//! ```
//!
//! Both are what servers do; only the wire between them is not here. An operator who hears nothing asks
//! again with the same request, until it knows.

use super::{
    client,
    net::number,
    world::{Era, Membership, Power, START, World, lock},
};
use crate::{Violation, workload};
use control::{
    Answer, Core, Proposal,
    cluster::{Place, bring_nearer},
};
use domain::{Actor, Command, Confirmation, Confirmed, NewMember, NewToken};
use log::cluster::ClusterLog;
use rt::{Process, Random, SimDisk, SimRandom, SimTasks};
use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};
use tokio::time::Instant;
use types::{DurationMs, NodeId, RequestId, Timestamp, TokenId};

/// How long whoever keeps the list rests at the most.
const TICK: Duration = Duration::from_millis(100);
/// An operator asks so often before it says that nothing will come of it.
const TRIES: u32 = 400;

/// Brings consensus's list in step with the log's, while this member leads.
pub(crate) async fn keep(node: NodeId, log: ClusterLog, core: Core, recovered_at: Option<u64>) {
    let founds =
        (node == super::life::FOUNDER || recovered_at.is_some()).then(|| new_member(number(node), true));
    let place = Place { founds, recovered_at, ..Place::default() };
    let mut applied = core.applied();
    loop {
        if core.leads() && bring_nearer(&log, &core, &place).await {
            continue;
        }
        tokio::select! {
            biased;
            changed = applied.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

fn new_member(number: u64, votes: bool) -> NewMember {
    let name = format!("m{number}").parse().expect("a letter and a number are a name");
    NewMember { name, peer: format!("m{number}:1"), api: String::new(), votes }
}

/// Begins an operator's work, which goes on until it is done, whatever befalls the cluster.
pub(crate) fn work(world: &Arc<World>, work: impl Future<Output = ()> + 'static) {
    let Some(tasks) = SimTasks::here() else { return };
    lock(&world.operators).working += 1;
    let world = Arc::clone(world);
    tasks.spawn_in(Process::default(), async move {
        work.await;
        lock(&world.operators).working -= 1;
    });
}

/// Has a command carried out, by whoever decides, and asks the same again until the answer is final.
async fn decided(world: &Arc<World>, era: Era, command: Command) -> Option<Answer> {
    let random = SimRandom::new(world.random.u64());
    let now = START.plus(DurationMs::from_ms(world.plan.begun.elapsed().as_millis() as u64));
    let mut body = [0; 32];
    body[..16].copy_from_slice(&random.u128().to_le_bytes());
    let request = Some((RequestId::from_parts(now, random.u128()), body));
    let proposal = Proposal { command, actor: operator(), judged: None, request, cause: None };
    for _ in 0..TRIES {
        tokio::time::sleep(Duration::from_millis(20 + random.below(80))).await;
        let Some(leader) = world.decides(era) else { continue };
        let answer = client::ask(world, leader, proposal.clone()).await;
        if let Some(Answer::Executed { .. } | Answer::Refused { .. }) = answer {
            return answer;
        }
    }
    None
}

fn operator() -> Actor {
    Actor::Token(TokenId::from_u128(9))
}

/// Lets a new machine in, and starts it. Gives its id once the log has given it one.
pub(crate) async fn admit(world: &Arc<World>, era: Era, votes: bool) -> Option<NodeId> {
    let name = {
        let mut operators = lock(&world.operators);
        operators.named += 1;
        // Apart from what those are called who began a cluster.
        1000 + operators.named
    };
    let token = workload::token(&world.random);
    let secret = token.hash;
    let token = NewToken { hash: secret, ..token };
    let Some(Answer::Executed { .. }) = decided(world, era, Command::CreateMemberJoin { token }).await else {
        return None;
    };
    let admitting = Command::AdmitMember { secret, member: new_member(name, votes) };
    let Some(Answer::Executed { done, .. }) = decided(world, era, admitting).await else { return None };
    let node = done.node?;
    world.say(|| format!("{} is let in, votes: {votes}", number(node)));
    world.count(|tally| match votes {
        true => tally.voters_added += 1,
        false => tally.learners_added += 1,
    });
    world.add_machine(node, Membership { era, recovered_at: None }, None);
    world.start(node);
    Some(node)
}

/// Takes a member out of the cluster, for ever, and waits until consensus is rid of it.
async fn remove(world: &Arc<World>, node: NodeId) {
    let (era, led) = (world.era_of(node), world.decides(world.era_of(node)) == Some(node));
    let confirmed = {
        let mut told = world.told(era);
        let reason = format!("an operator removes it, number {}", told.removals.len());
        told.removals.insert(reason.clone(), node);
        let at = Timestamp::from_ms(START.as_ms());
        Confirmed { actor: operator(), kind: Confirmation::Person, acknowledged: Vec::new(), reason, at }
    };
    world.say(|| format!("{} is to be removed, leads: {led}", number(node)));
    match decided(world, era, Command::RemoveMember { node, confirmed }).await {
        Some(Answer::Executed { .. }) => {}
        other => return world.say(|| format!("{} is not removed: {other:?}", number(node))),
    }
    world.count(|tally| {
        tally.removed += 1;
        tally.leaders_removed += u64::from(led);
    });
    for _ in 0..TRIES {
        let without = |log: &ClusterLog| !log.status().members.contains_key(&node);
        let leader = world.decides(era).and_then(|leader| world.running(leader));
        if leader.is_some_and(|(_, log)| without(&log)) {
            return world.say(|| format!("{} is a member no more", number(node)));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Who votes, as the log and consensus agree; none while they do not, or nobody decides.
pub(crate) fn voters(world: &World, era: Era) -> Option<BTreeSet<NodeId>> {
    let leader = world.decides(era)?;
    let (_, log) = world.running(leader)?;
    let (_, core) = world.core(leader)?;
    let voters = log.status().voters;
    let state = core.state();
    let recovered = world.with_machine(leader, |machine| machine.cluster.recovered_at).flatten();
    let declared = state.members.iter().filter(|(_, member)| {
        member.is_present() && member.votes && recovered.is_none_or(|event| member.admitted.get() > event)
    });
    let declared: BTreeSet<NodeId> = declared.map(|(node, _)| *node).collect();
    (declared == voters).then_some(voters)
}

/// At most so many members are let in in one round.
const NAMES: u64 = 8;

pub(crate) fn add(world: &Arc<World>, votes: bool) {
    let operators = lock(&world.operators);
    // Who is let in now has never heard the one that the old copy is of, and might believe it.
    if operators.old.is_some() || operators.named >= NAMES {
        return;
    }
    drop(operators);
    let (era, adding) = (world.era(), Arc::clone(world));
    work(world, async move {
        admit(&adding, era, votes).await;
    });
}

/// An operator removes a member that lives.
pub(crate) fn take_away(world: &Arc<World>, node: NodeId) {
    if voters(world, world.era_of(node)).is_none_or(|voters| voters.len() < 2) || !begin_removal(world) {
        return;
    }
    let removing = Arc::clone(world);
    work(world, async move {
        remove(&removing, node).await;
        lock(&removing.operators).removing = false;
    });
}

/// One at a time: of three, two that are taken away and one that is dead leave nobody who could decide it.
fn begin_removal(world: &World) -> bool {
    let mut operators = lock(&world.operators);
    let free = !operators.removing;
    operators.removing = true;
    free
}

/// A machine loses its disk. Somebody may start it again under its old id, from an older copy or from
/// nothing; then an operator does what is right: takes the old member out, and lets the machine in as new.
pub(crate) fn lose_disk(world: &Arc<World>, node: NodeId, wait: u64) {
    let era = world.era_of(node);
    let spared = voters(world, era).is_none_or(|voters| voters.len() < 3 || !voters.contains(&node));
    if spared || !begin_removal(world) {
        return;
    }
    world.say(|| format!("{} loses its disk", number(node)));
    world.count(|tally| tally.disks_lost += 1);
    world.crash(node, Power::Lost);
    let last = world.with_machine(node, |machine| {
        machine.disk = SimDisk::new(world.random.u64());
        (machine.gone, machine.founds) = (true, false);
        machine.copy.take()
    });
    let last = last.flatten().filter(|_| world.random.percent(80));
    let world_ = Arc::clone(world);
    work(world, async move {
        let world = world_;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        if world.random.percent(70) {
            live_on(&world, node, last, wait).await;
        }
        remove(&world, node).await;
        lock(&world.operators).removing = false;
        admit(&world, era, true).await;
    });
}

/// The old identity, for a while: nobody who ever heard a later life of it may hear it.
async fn live_on(world: &Arc<World>, node: NodeId, copy: Option<(SimDisk, Process)>, wait: u64) {
    // From nothing it is in its first life, of which everybody has heard who has heard any.
    let before = copy.as_ref().map_or(Process::default(), |(_, process)| *process);
    let mut others = world.nodes_of(world.era_of(node));
    others.retain(|other| *other != node);
    let known = {
        let operators = lock(&world.operators);
        let heard = |by: NodeId| operators.heard.get(&(by, node)).is_some_and(|life| *life > before);
        // Another operator may be letting somebody in.
        operators.working == 1 && others.into_iter().all(heard)
    };
    if !known {
        return;
    }
    world.with_machine(node, |machine| {
        if let Some((disk, _)) = copy {
            machine.disk = disk;
        }
        machine.gone = false;
    });
    world.start(node);
    // Once: a copy that is started again and again counts past the original.
    world.with_machine(node, |machine| machine.gone = true);
    let Some(life) = world.life(node) else { return };
    lock(&world.operators).old = Some(life.process);
    world.count(|tally| tally.old_identities += 1);
    world.say(|| format!("{} runs under its old id", number(node)));
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(wait) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.crash(node, Power::Lost);
    lock(&world.operators).old = None;
}

/// Whether a member that was let in has a machine: who let it in may never have heard of its id.
pub(crate) fn bring_machines(world: &Arc<World>, present: &BTreeSet<NodeId>, era: Era) {
    let known: BTreeSet<NodeId> = world.nodes().into_iter().collect();
    if lock(&world.operators).working > 0 {
        return;
    }
    for node in present.difference(&known) {
        world.say(|| format!("{} was let in unknown to anybody", number(*node)));
        world.add_machine(*node, Membership { era, recovered_at: None }, None);
        world.start(*node);
    }
}

/// Who is a member, as the one that decides knows it.
pub(crate) fn present(world: &World, era: Era) -> BTreeSet<NodeId> {
    let Some((leader, (_, core))) = world.decides(era).and_then(|leader| Some((leader, world.core(leader)?)))
    else {
        return BTreeSet::new();
    };
    let recovered = world.with_machine(leader, |machine| machine.cluster.recovered_at).flatten();
    let state = core.state();
    let is_one = |member: &domain::state::MemberState| {
        member.is_present() && recovered.is_none_or(|event| member.admitted.get() > event)
    };
    state.members.iter().filter(|(_, member)| is_one(member)).map(|(node, _)| *node).collect()
}

/// Somebody lets all members in.
pub(crate) async fn form(world: &Arc<World>, patience: Duration) -> bool {
    let begun = Instant::now();
    while world.decides(Era::First).is_none() {
        if begun.elapsed() > patience {
            return false;
        }
        tokio::time::sleep(TICK).await;
    }
    if let Some((process, core)) = world.core(super::life::FOUNDER) {
        let command = workload::begin(&world.random);
        client::in_process(process, async move { core.submit(command, Actor::System, None).await }).await;
    }
    for _ in 1..world.plan.members {
        admit(world, Era::First, true).await;
    }
    let wanted = usize::from(world.plan.members);
    loop {
        if voters(world, Era::First).is_some_and(|voters| voters.len() == wanted) {
            return true;
        }
        if begun.elapsed() > patience {
            let what = format!("not formed within {patience:?}");
            world.violated(Violation::new(super::verdict::LIVENESS, what));
            return false;
        }
        tokio::time::sleep(TICK).await;
    }
}
