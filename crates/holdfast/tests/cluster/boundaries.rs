//! Members killed at each boundary of a change of authority, by themselves and on the very instruction:
//! see `rt::Boundary`. The failure model says what each may leave; every act has words of its own, which
//! stand in the epoch that it opened, so that afterwards the logs themselves say what came of it.

use crate::{
    damage::REPAIR,
    ledger::{Ledger, Told, Writers, write},
    net::Way,
    scene::{ANSWER, Cluster, NAMES, SOON},
    wire::{self, Answer, Call, Lost},
};
use demo::wait_for;
use rt::Boundary::{self, *};
use serde_json::{Value, json};
use std::thread::JoinHandle;
use types::EventId;

const ALL: [usize; 3] = [0, 1, 2];

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// The one that is to lead.
    Target,
    /// The one that leads.
    Primary,
    /// The one that votes.
    Third,
    /// Whoever comes there first of those that may.
    Any,
}

/// What it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gives {
    /// The authority before, as if never asked: not even another term.
    Nothing,
    /// The authority before.
    Old,
    /// One or the other, wholly.
    Either,
    /// The new one.
    New,
}

/// Who dies where, when it comes there for the how manieth time, and what that leaves.
type Row = (Who, Boundary, u32, Gives);

/// Before anything is durable. The voters are asked twice: what is confirmed must still be as it was
/// explained, and what is begun must still be so.
const BEFORE: &[Row] = &[
    (Who::Target, PromotionAsked, 1, Gives::Nothing),
    (Who::Target, PromotionTold, 1, Gives::Nothing),
    (Who::Target, PromotionValidated, 1, Gives::Nothing),
    (Who::Target, ActConfirmed, 1, Gives::Nothing),
    (Who::Target, PromotionAsked, 2, Gives::Nothing),
    (Who::Target, PromotionTold, 3, Gives::Nothing),
    (Who::Target, PromotionValidated, 2, Gives::Nothing),
    (Who::Target, VoteOwn, 1, Gives::Nothing),
];

/// A voter whose promise is asked for.
const PROMISES: &[Row] =
    &[(Who::Third, PromiseAsked, 1, Gives::Nothing), (Who::Third, PromiseAsked, 2, Gives::Nothing)];

/// From the first vote on, until the epoch is committed.
const DURING: &[Row] = &[
    (Who::Target, VoteOwnDurable, 1, Gives::Old),
    (Who::Third, VoteGiven, 1, Gives::Either),
    (Who::Third, VoteGivenDurable, 1, Gives::Either),
    (Who::Target, EpochOpening, 1, Gives::Either),
    (Who::Target, EpochAppended, 1, Gives::Either),
    (Who::Target, EpochDurable, 1, Gives::Either),
    (Who::Third, EpochCopied, 1, Gives::Either),
];

/// From then on.
const AFTER: &[Row] = &[
    (Who::Target, EpochCommitted, 1, Gives::New),
    (Who::Third, EpochLearned, 1, Gives::New),
    (Who::Target, PromotionSucceeded, 1, Gives::New),
    (Who::Target, ActEnded, 1, Gives::New),
];

/// Of a handover.
const HANDING: &[Row] = &[
    (Who::Target, HandoverExpected, 1, Gives::Nothing),
    (Who::Primary, HandoverTold, 1, Gives::Old),
    (Who::Primary, HandoverDrained, 1, Gives::Old),
    (Who::Primary, HandoverCaughtUp, 1, Gives::Old),
    (Who::Target, HandoverTaking, 1, Gives::Nothing),
    (Who::Primary, HandoverAsked, 1, Gives::Either),
    (Who::Target, VoteOwn, 1, Gives::Nothing),
    (Who::Third, VoteGivenDurable, 1, Gives::Either),
    (Who::Primary, VoteGivenDurable, 1, Gives::Either),
    (Who::Target, EpochDurable, 1, Gives::Either),
    (Who::Primary, HandoverTaken, 1, Gives::New),
];

/// Those of them after which members that elect may come to another end than those that wait.
const HANDING_ELECTED: &[Row] = &[
    (Who::Primary, HandoverTold, 1, Gives::Either),
    (Who::Primary, HandoverCaughtUp, 1, Gives::Either),
    (Who::Primary, HandoverAsked, 1, Gives::Either),
    (Who::Target, VoteOwnDurable, 1, Gives::Either),
    (Who::Target, EpochDurable, 1, Gives::Either),
];

/// Of an election that nobody asked for: the leader is gone, and whoever comes there first goes too.
const ELECTING: &[Row] = &[
    (Who::Any, VoteOwn, 1, Gives::Either),
    (Who::Any, VoteOwnDurable, 1, Gives::Either),
    (Who::Any, VoteGivenDurable, 1, Gives::Either),
    (Who::Any, EpochOpening, 1, Gives::Either),
    (Who::Any, EpochAppended, 1, Gives::Either),
    (Who::Any, EpochDurable, 1, Gives::Either),
    (Who::Any, EpochCopied, 1, Gives::Either),
    (Who::Any, EpochCommitted, 1, Gives::Either),
];

#[test]
fn fm_p2_no_boundary_is_left_out() {
    let rows = [BEFORE, PROMISES, DURING, AFTER, HANDING, ELECTING].concat();
    // That of a join is in `joining`, those of a repair are in `damage`; those of writes, of acts that are
    // requests and of the command line are in the tests of operators' control.
    let operators = ["write.", "act.explained", "act.judged", "act.done", "call."];
    let elsewhere = |at: &Boundary| {
        *at == MemberAdmitted
            || REPAIR.contains(at)
            || operators.iter().any(|name| at.name().starts_with(name))
    };
    for boundary in Boundary::ALL.iter().filter(|at| !elsewhere(at)) {
        assert!(rows.iter().any(|(_, at, ..)| at == boundary), "nobody is killed at {}", boundary.name());
    }
}

/// What was asked for, under which words, and what came of it.
struct Act {
    why: String,
    gives: Gives,
    said: Result<Answer, Lost>,
    moved: bool,
}

/// A cluster in which authority changes, and what everybody was told.
struct Trial {
    cluster: Cluster,
    primary: usize,
    told: Ledger,
    acts: Vec<Act>,
}

impl Trial {
    fn of(cluster: Cluster) -> Self {
        let primary = cluster.leader_among(&ALL);
        Self { cluster, primary, told: Ledger::default(), acts: Vec::new() }
    }

    /// The epoch and the term that a member knows.
    fn authority(&self, at: usize) -> (u64, u64) {
        let status = self.cluster.status(at).expect("a status");
        let number = |name: &str| status[name].as_u64().expect("a number");
        (number("epoch"), number("term"))
    }

    /// All that anybody has is on every member, so that each of them may be promoted.
    fn settled(&self) {
        wait_for("all members to have every entry", SOON, || {
            let status = self.cluster.status(0)?;
            let rows = status["members"].as_array()?;
            let first = rows.first()?["index"].as_u64()?;
            rows.iter().all(|row| row["index"] == first).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}: {:?}", self.cluster.status(0)));
    }

    /// A write through each of these is executed.
    fn writable(&mut self, members: &[usize]) {
        for at in members {
            let mut last = String::new();
            wait_for("a write to be executed", SOON, || {
                let line = write(&self.cluster, *at);
                last = format!("{:?} {}", line.told, line.words);
                self.told.0.push(line);
                matches!(self.told.0.last()?.told, Told::Executed(_)).then_some(())
            })
            .unwrap_or_else(|error| panic!("{error}; the last through {}: {last}", NAMES[*at]));
        }
    }

    /// Explains an act and gives what confirms it; asks until it is not denied, for a primary that has
    /// just gone was heard a moment ago.
    fn explained(&self, at: usize, act: &str, about: usize, why: &str) -> Asked {
        let path = format!("/v1/cluster/{act}");
        let body = json!({ "node": NAMES[about], "reason": why });
        let mut last = None;
        let token = wait_for("an act that is explained", SOON, || {
            let path = format!("{path}?explain");
            let call = Call { method: "POST", path: &path, headers: &[], body: Some(&body) };
            last = Some(self.cluster.call(at, &call, ANSWER));
            let Some(Ok(answer)) = &last else { return None };
            (answer.status == 200).then(|| answer.body["token"].as_str().expect("a token").to_owned())
        });
        let token = token.unwrap_or_else(|error| panic!("{act} {}: {error}: {last:?}", NAMES[about]));
        Asked { at, path, body, token }
    }

    /// Confirms an act, and does not wait for what comes of it.
    fn confirm(&self, asked: Asked) -> JoinHandle<Result<Answer, Lost>> {
        let (host, bearer) =
            (self.cluster.host(asked.at).clone(), format!("Bearer {}", self.cluster.token()));
        std::thread::spawn(move || {
            let headers = [("authorization", bearer.as_str()), ("holdfast-confirm", asked.token.as_str())];
            let call = Call { method: "POST", path: &asked.path, headers: &headers, body: Some(&asked.body) };
            wire::call(&host, &call, ANSWER)
        })
    }

    /// One promotion of the next member, in which somebody dies. The primary is cut off meanwhile.
    fn promotion(&mut self, (who, boundary, times, gives): Row) {
        let (old, target, third) = (self.primary, (self.primary + 1) % 3, (self.primary + 2) % 3);
        let victim = if who == Who::Target { target } else { third };
        let why = format!("{} of {}, {}", boundary.name(), NAMES[victim], self.acts.len());
        eprintln!("{} is promoted: {why}", NAMES[target]);
        self.settled();
        let before = self.authority(old);
        self.cluster.host(old).cut(Way::Both);
        let asked = self.explained(target, "promote", target, &why);
        self.cluster.arm(victim, boundary, times);
        let said = self.confirm(asked);
        self.cluster.killed_at(victim, boundary);
        if gives == Gives::New {
            // All of them at once, and twice: what is decided is decided.
            ALL.iter().filter(|at| **at != victim).for_each(|at| self.cluster.kill(*at));
            self.cluster.host(old).heal();
            self.all_again();
            ALL.iter().for_each(|at| self.cluster.kill(*at));
            self.all_again();
        } else {
            // A voter is back while the candidate still asks; the candidate when the old one is heard.
            if victim == target {
                self.cluster.host(old).heal();
            }
            self.cluster.start(victim);
            if gives == Gives::Nothing {
                self.cluster.host(old).heal();
            }
        }
        let said = said.join().expect("it does not panic");
        self.cluster.host(old).heal();
        self.came_of(Act { why, gives, said, moved: false }, (old, target), before);
    }

    fn all_again(&mut self) {
        ALL.iter().for_each(|at| self.cluster.launch(*at).expect("a server"));
        ALL.iter().for_each(|at| self.cluster.answers(*at));
    }

    /// One handover to the next member, under load, in which somebody dies.
    fn handover(&mut self, (who, boundary, times, gives): Row) {
        let (old, target, third) = (self.primary, (self.primary + 1) % 3, (self.primary + 2) % 3);
        let victim = match who {
            Who::Target => target,
            Who::Primary => old,
            Who::Third | Who::Any => third,
        };
        let why = format!("{} of {}, {}", boundary.name(), NAMES[victim], self.acts.len());
        eprintln!("{} hands over to {}: {why}", NAMES[old], NAMES[target]);
        self.settled();
        let before = self.authority(old);
        // Through one that does not die.
        let at = if victim == third { old } else { third };
        let writers = Writers::start(&self.cluster, &[at]);
        writers.more(3);
        let asked = self.explained(at, "handover", target, &why);
        self.cluster.arm(victim, boundary, times);
        let said = self.confirm(asked);
        self.cluster.killed_at(victim, boundary);
        self.cluster.start(victim);
        let said = said.join().expect("it does not panic");
        self.told.0.extend(writers.stop().0);
        self.came_of(Act { why, gives, said, moved: false }, (old, target), before);
    }

    /// The primary stands still in the middle of a handover, another is elected, and it goes on.
    fn handover_that_stands_still(&mut self) {
        let (old, target, third) = (self.primary, (self.primary + 1) % 3, (self.primary + 2) % 3);
        let why = format!("{} stands still, {}", NAMES[old], self.acts.len());
        self.settled();
        let before = self.authority(old);
        let writers = Writers::start(&self.cluster, &[third]);
        writers.more(3);
        let asked = self.explained(third, "handover", target, &why);
        self.cluster.arm_to_stop(old, HandoverCaughtUp);
        let said = self.confirm(asked);
        self.cluster.stopped_at(old);
        self.cluster.leader_among(&[target, third]);
        writers.more(3);
        self.cluster.signal(old, libc::SIGCONT);
        let said = said.join().expect("it does not panic");
        self.told.0.extend(writers.stop().0);
        self.came_of(Act { why, gives: Gives::Either, said, moved: false }, (old, target), before);
    }

    /// The leader is killed, and whoever comes to a boundary first of those that elect another.
    fn election(&mut self, (_, boundary, times, _): Row) {
        let old = self.primary;
        eprintln!("{} is gone; {}", NAMES[old], boundary.name());
        self.settled();
        let voters: Vec<usize> = ALL.into_iter().filter(|at| *at != old).collect();
        voters.iter().for_each(|at| self.cluster.arm(*at, boundary, times));
        self.cluster.kill(old);
        let victim = self.cluster.killed_at_one_of(&voters, boundary);
        voters.iter().for_each(|at| self.cluster.disarm(*at));
        for at in [old, victim] {
            self.cluster.start(at);
        }
        self.primary = self.one_leads();
        self.writable(&ALL);
    }

    /// The one that leads, and nobody beside it.
    fn one_leads(&self) -> usize {
        let next = self.cluster.leader_among(&ALL);
        let leaders = ALL.iter().filter(|at| self.cluster.leads(**at)).count();
        assert!(leaders <= 1, "one authority");
        next
    }

    /// Afterwards one authority stands, and all can write.
    fn came_of(&mut self, act: Act, (old, target): (usize, usize), before: (u64, u64)) {
        let next = self.one_leads();
        self.writable(&ALL);
        let allowed = match act.gives {
            Gives::Nothing | Gives::Old => next == old,
            Gives::Either => next == old || next == target,
            Gives::New => next == target,
        };
        let Act { why, gives, said, .. } = &act;
        assert!(
            allowed || self.elects(),
            "{why}: {} leads after {}, and must be {gives:?}",
            NAMES[next],
            NAMES[old]
        );
        if *gives == Gives::Nothing && next == old && !self.elects() {
            assert_eq!(self.authority(old), before, "{why}: as if never asked");
        }
        let succeeded = said.as_ref().is_ok_and(|answer| answer.status == 200);
        assert!(!succeeded || next == target || self.elects(), "{why}: it said that it succeeded: {said:?}");
        self.primary = next;
        self.acts.push(Act { moved: next == target, ..act });
    }

    /// Whether members elect a leader by themselves.
    fn elects(&self) -> bool {
        self.cluster.status(0).expect("a status")["failover"] == "automatic"
    }

    /// Holds what was told against what the logs say.
    fn judge(mut self) {
        self.settled();
        let elects = self.elects();
        let count = self.told.agrees(&self.cluster, &ALL);
        assert!(count.executed >= self.acts.len(), "{count:?}");
        self.settled();
        ALL.iter().for_each(|at| self.cluster.kill(*at));
        let opened: Vec<Vec<(u64, String)>> = ALL.iter().map(|at| epochs(&self.cluster, *at)).collect();
        for (at, epochs) in opened.iter().enumerate() {
            assert_eq!(epochs, &opened[0], "{} has other epochs than one", NAMES[at]);
        }
        let numbers: Vec<u64> = opened[0].iter().map(|(epoch, _)| *epoch).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "one entry opens each epoch");
        for Act { why, gives, said, moved } in &self.acts {
            let opened = opened[0].iter().filter(|(_, words)| words.contains(why)).count();
            let told =
                said.as_ref().ok().and_then(|answer| answer.body["outcome"].as_str().map(str::to_owned));
            let told = match said {
                Ok(answer) if answer.status == 200 => "executed".to_owned(),
                _ => told.unwrap_or_else(|| "unknown".to_owned()),
            };
            eprintln!("{why}: {gives:?}, {told}, {opened} epochs");
            assert!(opened <= 1, "{why}: {opened} epochs of one act");
            let truth = if opened == 1 { "executed" } else { "not_executed" };
            // A node that dies with its own vote may be elected when it is back: then it leads, as was asked
            // for, and has forgotten the words.
            let led_after_all = elects && *moved && told == "executed";
            assert!(told == truth || told == "unknown" || led_after_all, "{why}: told as {told}: {said:?}");
            if !elects {
                // One that was elected and died before its epoch stands again by itself, without those words.
                assert!(if *moved { opened == 1 || *gives == Gives::Either } else { opened == 0 }, "{why}");
                let sure = match gives {
                    Gives::Nothing | Gives::Old => Some(0),
                    Gives::Either => None,
                    Gives::New => Some(1),
                };
                assert!(sure.is_none_or(|sure| sure == opened), "{why}: {opened} epochs");
            }
        }
    }
}

/// What confirms an act.
struct Asked {
    at: usize,
    path: String,
    body: Value,
    token: String,
}

/// The epochs in a member's log, and what each says of why it was opened.
fn epochs(cluster: &Cluster, at: usize) -> Vec<(u64, String)> {
    let mut epochs = Vec::new();
    log::wal::scan(&rt::RealDisk, &cluster.data(at).join("log"), EventId::ZERO, |header, parts| {
        if header.kind == log::Kind::Epoch {
            let why = parts.first().and_then(log::wal::read_epoch).map(|(_, why)| why).unwrap_or_default();
            epochs.push((header.epoch.get(), String::from_utf8_lossy(&why).into_owned()));
        }
    })
    .expect("the log reads");
    epochs
}

#[test]
fn fm_p1_killed_at_each_boundary_before_the_election_it_is_as_if_never_asked() {
    let mut trial = Trial::of(Cluster::operated());
    BEFORE.iter().for_each(|row| trial.promotion(*row));
    trial.judge();
}

#[test]
fn fm_p2_killed_at_each_boundary_of_the_election_the_authority_is_old_or_new() {
    let mut trial = Trial::of(Cluster::operated());
    DURING.iter().for_each(|row| trial.promotion(*row));
    trial.judge();
}

#[test]
fn fm_p2_killed_at_each_boundary_of_a_handover_there_is_one_authority() {
    let mut trial = Trial::of(Cluster::operated());
    HANDING.iter().for_each(|row| trial.handover(*row));
    trial.judge();
}

#[test]
fn fm_p2_killed_at_each_boundary_where_members_elect_there_is_one_authority() {
    let mut trial = Trial::of(Cluster::of_three());
    ELECTING.iter().for_each(|row| trial.election(*row));
    HANDING_ELECTED.iter().for_each(|row| trial.handover(*row));
    trial.handover_that_stands_still();
    trial.judge();
}

#[test]
fn fm_p3_killed_at_each_boundary_after_the_commit_the_new_authority_stays() {
    let mut trial = Trial::of(Cluster::operated());
    AFTER.iter().for_each(|row| trial.promotion(*row));
    trial.judge();
}

#[test]
fn fm_p5_a_voter_killed_as_its_promise_is_asked_leaves_the_authority_as_it_was() {
    let mut trial = Trial::of(Cluster::operated());
    PROMISES.iter().for_each(|row| trial.promotion(*row));
    for Act { said, why, .. } in &trial.acts {
        let answer = said.as_ref().expect("an answer");
        assert_eq!(answer.code(), "denied", "{answer:?}");
        assert!(journal(&trial.cluster, 1, why).contains(&"denied".to_owned()), "{why}");
    }
    trial.judge();
}

/// How an act ended, each time it was tried, in a member's journal.
fn journal(cluster: &Cluster, at: usize, why: &str) -> Vec<String> {
    let mut ended = Vec::new();
    control::Journal::read(&rt::RealDisk, cluster.data(at), |entry| {
        if serde_json::to_string(&entry.request).expect("plain data").contains(why) {
            ended.push(entry.ended.as_str().to_owned());
        }
    })
    .expect("a sound journal");
    ended
}

#[test]
fn fm_o3_a_promotion_whose_client_hangs_up_runs_to_its_end_and_its_reason_is_used_once() {
    let mut trial = Trial::of(Cluster::operated());
    trial.settled();
    trial.cluster.host(0).cut(Way::Both);
    let why = "nobody waits for this";
    let asked = trial.explained(1, "promote", 1, why);
    // It stands still when it has begun; whoever asked is gone before it goes on.
    trial.cluster.arm_to_stop(1, VoteOwn);
    let (host, bearer) = (trial.cluster.host(1).clone(), format!("Bearer {}", trial.cluster.token()));
    let headers = [("authorization", bearer.as_str()), ("holdfast-confirm", asked.token.as_str())];
    let call = Call { method: "POST", path: &asked.path, headers: &headers, body: Some(&asked.body) };
    let lost = wire::call(&host, &call, std::time::Duration::from_millis(1500));
    assert!(matches!(lost, Err(Lost::Unknown(_))), "{lost:?}");
    trial.cluster.stopped_at(1);
    trial.cluster.signal(1, libc::SIGCONT);
    wait_for("the act to be written down as executed", SOON, || {
        journal(&trial.cluster, 1, why).contains(&"executed".to_owned()).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", journal(&trial.cluster, 1, why)));
    assert_eq!(trial.cluster.leader_among(&[1, 2]), 1);
    trial.cluster.host(0).heal();
    trial.writable(&ALL);
    // The next epoch of the same process is one that nobody asked for.
    trial.cluster.kill(0);
    trial.cluster.kill(2);
    trial.cluster.start(2);
    trial.cluster.start(0);
    trial.writable(&ALL);
    let said = lost;
    trial.acts.push(Act { why: why.to_owned(), gives: Gives::New, said, moved: true });
    trial.judge();
}
