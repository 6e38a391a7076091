//! The page about a majority that is lost: for a while, and for good.

use crate::{
    At,
    ledger::{Told, write},
    page::Page,
    scene::{Cluster, SOON},
};
use demo::wait_for;

const ALL: [usize; 3] = [0, 1, 2];

#[test]
fn the_page_about_a_lost_majority() {
    let mut cluster = Cluster::of_three();
    let mut page = Page::read("majority-lost");
    let line = write(&cluster, 0);
    let Told::Executed(event) = line.told else { panic!("{line:?}") };
    cluster.caught_up(&ALL);
    let leader = cluster.leader_among(&ALL);
    let (left, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill(leader);
    cluster.kill(other);
    wait_for("the loss to be noticed", SOON, || {
        page.says("look", &At(&cluster, left), &[]).contains("no majority is heard").then_some(())
    })
    .expect("it is told");
    let said = page.says("fence", &At(&cluster, left), &[]);
    assert!(said.contains("fence"), "{said}");
    // The others come back, and the one that is fenced follows.
    cluster.start(leader);
    cluster.start(other);
    let next = cluster.leader_among(&[leader, other]);
    page.walk("over", &At(&cluster, left), &[]);
    let line = write(&cluster, left);
    assert!(matches!(line.told, Told::Executed(_)), "{line:?}");

    // For good: one goes on alone, as another cluster.
    cluster.caught_up(&ALL);
    ALL.iter().for_each(|at| cluster.kill(*at));
    let data = cluster.data(next).display().to_string();
    let words = [("DATA", data.as_str())];
    let explained = page.says("explain", &At(&cluster, next), &words);
    assert!(explained.contains("acked_is_durable") && explained.contains("one_authority"), "{explained}");
    page.walk("recover", &At(&cluster, next), &words);
    page.walk("start", &At(&cluster, next), &words);
    cluster.start(next);
    assert_eq!(cluster.leader_among(&[next]), next);
    wait_for("the lost members to be none any more", SOON, || {
        let events = cluster.cli(next, &["events", "--json"]).stdout;
        (events.matches("member.removed").count() >= 2).then_some(())
    })
    .expect("written down");
    page.walk("after", &At(&cluster, next), &words);
    assert!(cluster.head(next) >= Some(event), "nothing that was acknowledged is missing");
    let line = write(&cluster, next);
    assert!(matches!(line.told, Told::Executed(_)), "{line:?}");
}
