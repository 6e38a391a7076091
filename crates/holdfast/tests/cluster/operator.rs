//! Members that wait for an operator: `failover = operator`. Nobody takes authority by itself, and a
//! promotion gives it wholly or not at all.

use crate::{
    ledger::{Ledger, Told, Writers, write},
    scene::{Cluster, NAMES, SOON},
};
use demo::{Cli, wait_for};
use serde_json::Value;
use std::time::{Duration, Instant};

const ALL: [usize; 3] = [0, 1, 2];

/// Explains an act at a member; the token.
fn explained(cluster: &Cluster, at: usize, act: &[&str]) -> (Value, String) {
    let said = cluster.cli(at, &[&["cluster"], act, &["--explain", "--json"]].concat());
    let shown = said.executed().unwrap_or_else(|error| panic!("{act:?}: {error}")).json().expect("JSON");
    let token = shown["token"].as_str().expect("a token").to_owned();
    (shown, token)
}

/// Confirms an act at a member.
fn confirm(cluster: &Cluster, at: usize, act: &[&str], token: &str) -> Cli {
    cluster.cli(at, &[&["cluster"], act, &["--confirm", token, "--json"]].concat())
}

/// The arguments of a promotion.
fn promote(node: usize) -> [&'static str; 4] {
    ["promote", NAMES[node], "--reason", "the primary is gone"]
}

/// Explains and confirms a promotion, asked of that member. The epoch it opened.
fn promoted(cluster: &Cluster, node: usize) -> u64 {
    let (_, token) = explained_in_time(cluster, node);
    let done = confirm(cluster, node, &promote(node), &token).executed().expect("a promotion");
    done.json().expect("JSON")["epoch"].as_u64().expect("an epoch")
}

/// Waits until all that anybody has is on every member, so that each of them may be promoted.
fn settled(cluster: &Cluster) {
    wait_for("all members to have every entry", SOON, || {
        let status = cluster.status(0)?;
        let rows = status["members"].as_array()?;
        let first = rows.first()?["index"].as_u64()?;
        rows.iter().all(|row| row["index"] == first).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", cluster.status(0)));
}

/// Promotes whichever of these has the most: only that one may be.
fn promoted_of(cluster: &Cluster, members: &[usize]) -> (usize, u64) {
    let mut last = Vec::new();
    let found = wait_for("one that may be promoted", SOON, || {
        last.clear();
        members.iter().copied().find(|at| {
            let act = [&["cluster"], promote(*at).as_slice(), &["--explain"]].concat();
            last.push(cluster.cli(*at, &act));
            last.last().is_some_and(|said| said.code == 0)
        })
    });
    let node = found.unwrap_or_else(|error| panic!("{error}: {last:?}"));
    (node, promoted(cluster, node))
}

/// A primary that has just died was heard a moment ago, and as long as that is so a promotion is
/// denied: asks until it is not.
fn explained_in_time(cluster: &Cluster, node: usize) -> (Value, String) {
    let act = [&["cluster"], promote(node).as_slice(), &["--explain", "--json"]].concat();
    let mut last = None;
    let shown = wait_for("a promotion that is not denied", SOON, || {
        let said = cluster.cli(node, &act);
        let shown = (said.code == 0).then(|| said.json().expect("JSON"));
        last = Some(said);
        shown
    })
    .unwrap_or_else(|error| panic!("{error}: {last:?}"));
    let token = shown["token"].as_str().expect("a token").to_owned();
    (shown, token)
}

/// The epoch that a member knows of.
fn epoch(cluster: &Cluster, at: usize) -> u64 {
    cluster.status(at).expect("a status")["epoch"].as_u64().expect("a number")
}

/// A write through each of these is executed.
fn writable(cluster: &Cluster, members: &[usize]) {
    for at in members {
        let mut last = String::new();
        wait_for("a write to be executed", SOON, || {
            let line = write(cluster, *at);
            last = format!("{:?} {}", line.told, line.words);
            matches!(line.told, Told::Executed(_)).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}; the last through {}: {last}", NAMES[*at]));
    }
}

/// Nobody of these takes authority by itself, however often an election could have been held by now.
fn nobody_leads(cluster: &Cluster, members: &[usize]) {
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        assert_eq!(cluster.leader_of(members), None, "nobody was told to lead");
    }
}

#[test]
fn fm_p4_a_dead_primary_leaves_no_writable_node_until_an_operator_says_so() {
    let mut cluster = Cluster::operated();
    writable(&cluster, &ALL);
    let before = epoch(&cluster, 1);
    cluster.kill(0);
    nobody_leads(&cluster, &[1, 2]);
    for at in [1, 2] {
        let refused = write(&cluster, at);
        assert_eq!(refused.told, Told::NotExecuted, "{refused:?}");
        assert!(refused.words.contains("503") && refused.words.contains("promote"), "{refused:?}");
        let copy = cluster.get(at, "/v1/tokens?consistency=stale").expect("an answer");
        assert_eq!(copy.status, 200, "{copy:?}");
        assert!(copy.header("holdfast-age").is_some(), "labelled: {copy:?}");
        for consistency in ["leader", "linearizable"] {
            let answer =
                cluster.get(at, &format!("/v1/tokens?consistency={consistency}")).expect("an answer");
            assert_eq!(answer.status, 503, "{consistency}: {answer:?}");
        }
        assert_eq!(cluster.get(at, "/health/live").expect("an answer").status, 200);
        assert_eq!(cluster.get(at, "/health/ready").expect("an answer").status, 503, "no writable node");
    }
    // Also not after restarts of those that are left.
    for at in [1, 2] {
        cluster.kill(at);
        cluster.start(at);
    }
    nobody_leads(&cluster, &[1, 2]);
    // The one that the last epoch names needs nobody's word.
    cluster.start(0);
    assert_eq!(cluster.leader_among(&ALL), 0);
    writable(&cluster, &ALL);
    assert_eq!(epoch(&cluster, 0), before + 1, "elected again, not resumed");
    cluster.same_everywhere(&ALL);
}

#[test]
fn fm_p1_a_promotion_changes_nothing_before_it_is_confirmed() {
    let mut cluster = Cluster::operated();
    writable(&cluster, &[0]);
    settled(&cluster);
    cluster.kill(0);
    let (shown, token) = explained_in_time(&cluster, 1);
    let text = shown.to_string();
    for name in ["one_authority", "acked_is_durable", "promotion_is_atomic"] {
        assert!(text.contains(name), "{name} is told with its proof: {shown}");
    }
    let before = epoch(&cluster, 1);
    for (wrong, code) in
        [("act_00", "confirmation_invalid"), (&token[..token.len() - 1], "confirmation_invalid")]
    {
        let said = confirm(&cluster, 1, &promote(1), wrong);
        assert_eq!(said.code, 5, "{said:?}");
        assert!(format!("{}{}", said.stdout, said.stderr).contains(code), "{said:?}");
    }
    // The token is for this act, with these words, and for no other.
    let other = ["promote", "two", "--reason", "another one"];
    assert_eq!(confirm(&cluster, 1, &other, &token).code, 5, "another reason");
    assert_eq!(confirm(&cluster, 2, &promote(2), &token).code, 5, "another node");
    // It dies with the node that gave it.
    let (_, token) = explained_in_time(&cluster, 1);
    cluster.kill(1);
    cluster.start(1);
    assert_eq!(confirm(&cluster, 1, &promote(1), &token).code, 5, "a restart forgets it");
    // Nor does a script answer with --yes.
    let yes = cluster.cli(1, &[["cluster"].as_slice(), promote(1).as_slice(), &["--yes"]].concat());
    assert_eq!(yes.code, 5, "{yes:?}");
    nobody_leads(&cluster, &[1, 2]);
    assert_eq!(epoch(&cluster, 1), before, "as if never asked");
    // What was shown has changed: another one was promoted meanwhile.
    let (_, stale) = explained_in_time(&cluster, 2);
    promoted(&cluster, 1);
    let late = confirm(&cluster, 2, &promote(2), &stale);
    assert_eq!(late.code, 5, "{late:?}");
    assert_eq!(cluster.leader_among(&[1, 2]), 1);
    assert_eq!(epoch(&cluster, 1), before + 1, "one promotion, one epoch");
    writable(&cluster, &[1, 2]);
    cluster.start(0);
    writable(&cluster, &ALL);
    cluster.same_everywhere(&ALL);
}

#[test]
fn fm_p2_killed_during_the_transition_the_authority_is_old_or_new() {
    let mut cluster = Cluster::operated();
    writable(&cluster, &[0]);
    let mut primary = 0;
    // The target, then the third, each killed a little later every time.
    for (round, delay) in [0, 5, 15, 30, 60].into_iter().enumerate() {
        let target = (primary + 1) % 3;
        let third = (primary + 2) % 3;
        let victim = if round % 2 == 0 { target } else { third };
        settled(&cluster);
        cluster.kill(primary);
        let (_, token) = explained_in_time(&cluster, target);
        let before = epoch(&cluster, target);
        let arguments = [["cluster"].as_slice(), promote(target).as_slice(), &["--confirm", &token]].concat();
        let asked = cluster.begin(target, &arguments);
        // When in the transition it dies is what differs, not whether.
        std::thread::sleep(Duration::from_millis(delay));
        cluster.kill(victim);
        let said = asked.wait_with_output().expect("it ends");
        cluster.start(victim);
        cluster.start(primary);
        let next = cluster.leader_among(&ALL);
        assert!(next == primary || next == target, "the old one or the new one, not {}", NAMES[next]);
        assert!(!said.status.success() || next == target, "{said:?}: it said that it succeeded");
        writable(&cluster, &ALL);
        let leaders = ALL.iter().filter(|at| cluster.leads(**at)).count();
        assert_eq!(leaders, 1, "one authority");
        assert!(epoch(&cluster, next) > before);
        primary = next;
    }
    cluster.same_everywhere(&ALL);
}

#[test]
fn fm_p3_the_new_authority_stays_through_restarts_and_the_old_primary_follows() {
    let mut cluster = Cluster::operated();
    let writers = Writers::start(&cluster, &[1, 2]);
    writers.more(20);
    cluster.kill(0);
    let (next, first) = promoted_of(&cluster, &[1, 2]);
    writers.more(20);
    // The old primary returns, and follows.
    cluster.start(0);
    writable(&cluster, &ALL);
    assert_eq!(cluster.leader_of(&ALL), Some(next));
    // Every node is restarted, all at once, and twice.
    for _ in 0..2 {
        ALL.iter().for_each(|at| cluster.kill(*at));
        ALL.iter().for_each(|at| cluster.launch(*at).expect("a server"));
        ALL.iter().for_each(|at| cluster.answers(*at));
    }
    assert_eq!(cluster.leader_among(&ALL), next, "the one that the last epoch names");
    wait_for("an epoch of its own", SOON, || (epoch(&cluster, next) > first).then_some(())).expect("opened");
    writers.more(10);
    // And back: A, B, A.
    let ledger = writers.stop();
    settled(&cluster);
    cluster.kill(next);
    let back = promoted(&cluster, 0);
    assert!(back > first);
    cluster.start(next);
    writable(&cluster, &ALL);
    assert_eq!(cluster.leader_among(&ALL), 0);
    let count = ledger.agrees(&cluster, &ALL);
    assert!(count.executed >= 50, "{count:?}");
}

#[test]
fn fm_p5_a_promotion_without_its_replicas_fails_and_changes_nothing() {
    let mut cluster = Cluster::operated();
    writable(&cluster, &[0]);
    settled(&cluster);
    cluster.kill(0);
    let (_, token) = explained_in_time(&cluster, 1);
    let before = epoch(&cluster, 1);
    // A replica dies between the explanation and the confirmation.
    cluster.kill(2);
    let said = confirm(&cluster, 1, &promote(1), &token);
    assert_eq!(said.code, 5, "{said:?}");
    assert!(
        said.stderr.contains("majority is missing") || said.stdout.contains("majority is missing"),
        "{said:?}"
    );
    assert_eq!((cluster.leader_of(&[1]), epoch(&cluster, 1)), (None, before));
    // The old authority stands: when it is back, it leads.
    cluster.start(2);
    cluster.start(0);
    assert_eq!(cluster.leader_among(&ALL), 0);
    writable(&cluster, &ALL);
    cluster.same_everywhere(&ALL);
}

#[test]
fn fm_p6_a_promotion_that_is_not_provably_safe_is_denied_by_name() {
    let mut cluster = Cluster::operated();
    writable(&cluster, &[0]);
    let before = epoch(&cluster, 0);
    let denied = |cluster: &Cluster, node: usize, words: &[&str]| {
        let act = [["cluster"].as_slice(), promote(node).as_slice(), &["--explain"]].concat();
        let said = cluster.cli(node, &act);
        assert_eq!(said.code, 5, "{said:?}");
        words.iter().for_each(|word| assert!(said.stderr.contains(word), "{word}: {said:?}"));
    };
    denied(&cluster, 1, &["one_authority", "the primary lives", "handover"]);
    denied(&cluster, 0, &["sequences already"]);
    let unknown = cluster.cli(1, &["cluster", "promote", "nobody", "--reason", "x", "--explain"]);
    assert_eq!(unknown.code, 4, "{unknown:?}");

    // The target does not hear the primary, and another member does: one positive sign is enough.
    cluster.host(1).cut_from(cluster.host(0), crate::net::Way::Both);
    denied(&cluster, 1, &["one_authority", "the primary lives"]);
    writable(&cluster, &[0, 2]);
    cluster.host(1).heal();

    // Alone: silence proves nothing.
    cluster.kill(0);
    cluster.kill(2);
    denied(&cluster, 1, &["one_authority", "a majority is missing", "silence proves nothing"]);
    cluster.start(2);

    // The target lacks what the other has.
    cluster.kill(1);
    cluster.start(0);
    cluster.leader_among(&[0, 2]);
    writable(&cluster, &[0, 2]);
    cluster.caught_up(&[0, 2]);
    cluster.kill(0);
    cluster.start(1);
    wait_for("a denial for what it lacks", SOON, || {
        let act = [["cluster"].as_slice(), promote(1).as_slice(), &["--explain"]].concat();
        cluster.cli(1, &act).stderr.contains("acked_is_durable").then_some(())
    })
    .expect("denied by name");
    nobody_leads(&cluster, &[1, 2]);
    cluster.start(0);
    assert_eq!(cluster.leader_among(&ALL), 0);
    writable(&cluster, &ALL);
    assert!(epoch(&cluster, 0) > before);
    cluster.same_everywhere(&ALL);
}

#[test]
fn fm_p7_an_old_primary_that_is_cut_off_cannot_commit() {
    let cluster = Cluster::operated();
    writable(&cluster, &ALL);
    let old = Writers::start(&cluster, &[0]);
    old.more(10);
    cluster.host(0).cut(crate::net::Way::Both);
    let (next, _) = promoted_of(&cluster, &[1, 2]);
    let new = Writers::start(&cluster, &[1, 2]);
    new.more(20);
    // It believes what it likes: nothing that it says is confirmed.
    let read = cluster.get(0, "/v1/tokens?consistency=linearizable").expect("an answer");
    assert_eq!(read.status, 503, "{read:?}");
    let alone = old.stop();
    let tail = write(&cluster, 0);
    assert!(!matches!(tail.told, Told::Executed(_)), "{tail:?}");
    assert_eq!(cluster.leader_of(&[1, 2]), Some(next), "it has disturbed nobody");
    cluster.host(0).heal();
    writable(&cluster, &[0]);
    assert_eq!(cluster.leader_of(&ALL), Some(next));
    let count = new.stop().agrees(&cluster, &ALL);
    assert!(count.executed >= 20 && count.unknown == 0, "{count:?}");
    alone.agrees(&cluster, &ALL);
}

#[test]
fn fm_p2_a_handover_cut_short_leaves_one_authority() {
    let mut cluster = Cluster::operated();
    let mut primary = 0;
    let mut told = Ledger::default();
    for (round, delay) in [2, 8, 20, 40].into_iter().enumerate() {
        let (target, third) = ((primary + 1) % 3, (primary + 2) % 3);
        let victim = [target, primary][round % 2];
        let writers = Writers::start(&cluster, &[third]);
        writers.more(5);
        let act = ["handover", NAMES[target], "--reason", "a new kernel"];
        let (_, token) = explained(&cluster, third, &act);
        let before = epoch(&cluster, third);
        let asked = cluster.begin(third, &[["cluster"].as_slice(), &act, &["--confirm", &token]].concat());
        // When in the transition it dies is what differs, not whether.
        std::thread::sleep(Duration::from_millis(delay));
        cluster.kill(victim);
        let said = asked.wait_with_output().expect("it ends");
        cluster.start(victim);
        let next = cluster.leader_among(&ALL);
        assert!(next == primary || next == target, "the old one or the new one, not {}", NAMES[next]);
        writable(&cluster, &ALL);
        let leaders = ALL.iter().filter(|at| cluster.leads(**at)).count();
        assert_eq!(leaders, 1, "one authority");
        assert!(!said.status.success() || next == target, "it said that it was done: {said:?}");
        assert!(epoch(&cluster, next) >= before);
        told.0.extend(writers.stop().0);
        primary = next;
    }
    told.agrees(&cluster, &ALL);
}

#[test]
fn a_handover_moves_the_lead_there_and_back_and_loses_no_write() {
    let cluster = Cluster::operated();
    let writers = Writers::start(&cluster, &ALL);
    writers.more(20);
    for to in [1, 0] {
        let before = epoch(&cluster, to);
        let act = ["handover", NAMES[to], "--reason", "a new kernel"];
        // Asked of any member; the one that leads does it.
        let (_, token) = explained(&cluster, 2, &act);
        let done = confirm(&cluster, 2, &act, &token).executed().expect("a handover").json().expect("JSON");
        assert!(done["gap_ms"].as_u64().is_some_and(|gap| gap < 5_000), "{done}");
        assert_eq!(cluster.leader_among(&ALL), to);
        assert!(epoch(&cluster, to) > before);
        writers.more(20);
    }
    let ledger = writers.stop();
    let count = ledger.agrees(&cluster, &ALL);
    assert_eq!(count.unknown, 0, "planned change leaves no doubt: {count:?}");
    assert!(count.executed >= 60, "{count:?}");
}

#[test]
fn fm_b_a_standby_is_promoted_when_the_primary_is_gone_for_good() {
    let mut cluster = Cluster::operated();
    let writers = Writers::start(&cluster, &ALL);
    writers.more(30);
    cluster.kill(0);
    std::fs::remove_dir_all(cluster.data(0)).expect("the disk is lost");
    nobody_leads(&cluster, &[1, 2]);
    let (next, epoch_now) = promoted_of(&cluster, &[1, 2]);
    assert_eq!(epoch(&cluster, next), epoch_now);
    writable(&cluster, &[1, 2]);
    writers.more(30);
    let ledger = writers.stop();
    // Nothing that was acknowledged before or after is missing, and it is the same on both.
    let count = ledger.agrees(&cluster, &[1, 2]);
    assert!(count.executed >= 30, "{count:?}");
    for at in [1, 2] {
        let rebuilt = cluster.cli(at, &["views", "rebuild", "--json"]).executed().expect("rebuilt");
        let rows = rebuilt.json().expect("JSON");
        let rows = rows.as_array().expect("views");
        assert!(!rows.is_empty() && rows.iter().all(|row| row["equal"] == true), "{rows:?}");
    }
    // Whoever lost its disk is no member any more; a fresh directory takes its place.
    let remove = ["remove", NAMES[0], "--reason", "its disk is lost"];
    let (_, token) = explained(&cluster, next, &remove);
    confirm(&cluster, next, &remove, &token).executed().expect("removed");
    let secret = cluster.secret(next);
    cluster.ask_to_join(0, "fresh", next, &secret).executed().expect("let in");
    cluster.start(0);
    cluster.all_vote(3);
    cluster.same_everywhere(&ALL);
}
