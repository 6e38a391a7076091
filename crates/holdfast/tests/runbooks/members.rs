//! Pages about members: who leads, who is down, who lags, who joins.

use crate::{
    At,
    ledger::{Told, fresh, write},
    page::Page,
    scene::{Cluster, Made, NAMES, SOON},
};
use demo::wait_for;

const ALL: [usize; 3] = [0, 1, 2];

/// Writes through a member, and what the request was.
fn written(cluster: &Cluster, at: usize) -> String {
    let line = wait_for("a write", SOON, || {
        Some(write(cluster, at)).filter(|line| matches!(line.told, Told::Executed(_)))
    });
    line.expect("executed").request.to_string()
}

#[test]
fn pages_about_members_and_their_leader() {
    let made = Made { members: 3, spare: 1, flags: &["--failover", "operator"] };
    let mut cluster = Cluster::of(made);
    written(&cluster, 0);
    the_lead_is_moved(&cluster);
    the_leader_is_lost(&mut cluster);
    a_member_is_down(&mut cluster);
    a_member_lags(&cluster);
    snapshots_and_views(&cluster);
    outcomes(&cluster);
    one_joins(&mut cluster);
    cluster.same_everywhere(&[0, 1, 2, 3]);
}

/// From the first to the second.
fn the_lead_is_moved(cluster: &Cluster) {
    let mut page = Page::read("leader-lost");
    assert!(page.says("look", &At(cluster, 1), &[]).contains("one leads"));
    page.walk("handover", &At(cluster, 1), &[("NODE", NAMES[1])]);
    assert_eq!(cluster.leader_among(&ALL), 1);
    let request = written(cluster, 1);
    assert!(page.says("unknown", &At(cluster, 2), &[("REQUEST", &request)]).contains("executed"));
    page.walk("over", &At(cluster, 2), &[]);
}

/// The second is killed; the third is promoted.
fn the_leader_is_lost(cluster: &mut Cluster) {
    let mut page = Page::read("promotion");
    let request = written(cluster, 1);
    cluster.caught_up(&ALL);
    cluster.kill(1);
    let node = [("NODE", NAMES[2]), ("REQUEST", request.as_str())];
    // While the primary was heard a moment ago, that is a sign that it lives.
    wait_for("the promotion to be explained", SOON, || {
        let act = ["cluster", "promote", NAMES[2], "--reason", "trying", "--explain"];
        (cluster.cli(2, &act).code == 0).then_some(())
    })
    .expect("it can be proven");
    assert!(page.says("look", &At(cluster, 2), &node).contains("nobody leads"));
    assert!(page.says("script", &At(cluster, 2), &node).contains("--confirm act_"));
    page.walk("promote", &At(cluster, 2), &node);
    assert_eq!(cluster.leader_among(&[0, 2]), 2);
    assert!(page.says("unknown", &At(cluster, 0), &node).contains("executed"));
    assert!(page.says("over", &At(cluster, 0), &node).contains("three leads"));
}

fn a_member_is_down(cluster: &mut Cluster) {
    let mut page = Page::read("member-down");
    let looked = page.says("look", &At(cluster, 0), &[]);
    let row = looked.lines().find(|line| line.starts_with("two ")).expect("a row");
    assert!(row.contains("cannot be reached") || row.contains("does not answer"), "{looked}");
    let data = cluster.data(1).display().to_string();
    page.walk("start", &At(cluster, 1), &[("DATA", &data)]);
    cluster.start(1);
    cluster.all_vote(3);
    cluster.caught_up(&ALL);
    let over = page.says("over", &At(cluster, 0), &[]);
    assert!(over.contains("three leads, a majority is heard"), "{over}");
}

/// The second stands still for a while.
fn a_member_lags(cluster: &Cluster) {
    let mut page = Page::read("replication-lag");
    cluster.signal(1, libc::SIGSTOP);
    written(cluster, 2);
    page.walk("look", &At(cluster, 2), &[]);
    let data = cluster.data(1).display().to_string();
    page.walk("machine", &At(cluster, 1), &[("DATA", &data)]);
    cluster.signal(1, libc::SIGCONT);
    cluster.all_vote(3);
    cluster.caught_up(&ALL);
    page.walk("over", &At(cluster, 2), &[]);
}

fn snapshots_and_views(cluster: &Cluster) {
    let mut page = Page::read("snapshot-old");
    let data = cluster.data(2).display().to_string();
    assert!(page.says("make", &At(cluster, 2), &[]).contains("snapshot of event"));
    assert!(page.says("disk", &At(cluster, 2), &[("DATA", &data)]).contains(".snap"));
    assert!(page.says("over", &At(cluster, 2), &[]).contains(" ago"));
    let mut page = Page::read("views-behind");
    page.walk("look", &At(cluster, 0), &[]);
    page.walk("rebuild", &At(cluster, 0), &[]);
    page.walk("over", &At(cluster, 0), &[]);
}

fn outcomes(cluster: &Cluster) {
    let mut page = Page::read("unknown-outcome");
    let (seen, never) = (written(cluster, 0), fresh().to_string());
    let words = [("REQUEST", seen.as_str()), ("OTHER", never.as_str())];
    assert!(page.says("show", &At(cluster, 1), &words).contains("executed"));
    assert!(page.says("void", &At(cluster, 1), &words).contains("void"));
}

/// The fourth machine.
fn one_joins(cluster: &mut Cluster) {
    let mut page = Page::read("cannot-join");
    page.walk("look", &At(cluster, 0), &[]);
    let secret = page.walk("secret", &At(cluster, 2), &[]).remove(0).stdout;
    let (data, peer, member) = (cluster.data(3).display().to_string(), cluster.peer(3), cluster.peer(2));
    let words = [
        ("MEMBER", member.as_str()),
        ("SECRET", secret.trim()),
        ("DATA", &data),
        ("NAME", NAMES[3]),
        ("HOST:PORT", &peer),
    ];
    page.walk("join", &At(cluster, 3), &words);
    cluster.start(3);
    cluster.all_vote(4);
    assert!(page.says("over", &At(cluster, 0), &[]).contains("four "));
}
