//! Becoming a member, and not becoming one: each refusal says what differs, and the same command may
//! be run again.

use crate::{
    ledger::{Told, write},
    scene::{Cluster, Made, NAMES, SOON},
};
use demo::{Cli, wait_for};
use rt::Boundary;

/// That it was refused, and said so.
fn refused(said: &Cli, words: &[&str]) {
    assert!([1, 5].contains(&said.code), "{said:?}");
    words.iter().for_each(|word| assert!(said.stderr.contains(word), "{word:?} is not said: {said:?}"));
}

#[test]
fn fm_cfg8_whoever_cannot_join_is_told_what_differs() {
    let mut cluster = Cluster::of(Made { members: 2, spare: 2, ..Made::default() });
    let secret = cluster.secret(0);

    // The same command again, before and after the start: the same member.
    let first = cluster.ask_to_join(2, NAMES[2], 0, &secret).executed().expect("let in");
    let again = cluster.ask_to_join(2, NAMES[2], 0, &secret).executed().expect("idempotent");
    assert_eq!(first.stdout, again.stdout);
    cluster.start(2);
    let after = cluster.ask_to_join(2, NAMES[2], 1, &secret).executed().expect("idempotent");
    assert_eq!(first.stdout, after.stdout);
    cluster.all_vote(3);

    // A used secret lets nobody else in.
    refused(&cluster.ask_to_join(3, NAMES[3], 0, &secret), &["used"]);
    // A name that is taken.
    let secret = cluster.secret(1);
    refused(&cluster.ask_to_join(3, NAMES[0], 0, &secret), &["one"]);
    // That was no use of it: the same secret lets one in under another name, through a follower.
    let leader = cluster.leader_among(&[0, 1, 2]);
    let follower = [0, 1, 2].into_iter().find(|at| *at != leader).expect("one of them");
    cluster.ask_to_join(3, NAMES[3], follower, &secret).executed().expect("let in");
    cluster.start(3);
    cluster.all_vote(4);
    // A secret made of words is not sent anywhere.
    let nonsense = cluster.ask_to_join(3, NAMES[3], 0, "words");
    assert_eq!(nonsense.code, 2, "{nonsense:?}");
    let line = write(&cluster, 3);
    assert!(matches!(line.told, Told::Executed(_)), "{line:?}");
    cluster.same_everywhere(&[0, 1, 2, 3]);
}

#[test]
fn fm_cfg8_a_member_of_another_cluster_is_refused_by_what_differs() {
    let mut cluster = Cluster::machines(3);
    cluster.found(&[]);
    let own = cluster.secret(0);
    // The second machine begins a cluster of its own.
    let other = cluster.init(1, &["--failover", "operator"]).executed().expect("another founder");
    let token =
        other.stdout.split_whitespace().find(|word| word.starts_with("hf_")).expect("a token").to_owned();
    cluster.start(1);
    let foreign = wait_for("a secret of the other cluster", SOON, || {
        cluster.cli(1, &["cluster", "join-token", "--token", &token]).executed().ok()
    });
    let foreign = foreign.expect("a secret").stdout.trim().to_owned();
    // A secret of one cluster at the address of the other is not even shown to it.
    refused(&cluster.ask_to_join(2, NAMES[2], 0, &foreign), &["not of the cluster that the secret is for"]);
    refused(&cluster.ask_to_join(2, NAMES[2], 1, &own), &["not of the cluster that the secret is for"]);
    // A directory that has a log of its own is not given another.
    refused(&cluster.ask_to_join(1, NAMES[1], 0, &own), &["holds the log of node"]);
    // Nobody is there.
    let secret = cluster.secret(0);
    let nobody = cluster.ask_to_join(2, NAMES[2], 2, &secret);
    assert!(nobody.code == 6 && nobody.stderr.contains("10.77.0.3:7071"), "{nobody:?}");
    // Failover and elections are the cluster's, whatever was there before.
    cluster.ask_to_join(2, NAMES[2], 0, &secret).executed().expect("let in");
    cluster.start(2);
    cluster.all_vote_of(&[0, 2], 2);

    // Another failover mode, in a file that somebody changed: refused by name, and nothing is lost.
    cluster.stop(2);
    let file = cluster.data(2).join("member.toml");
    let text = std::fs::read_to_string(&file).expect("settings");
    assert!(text.contains("automatic"), "{text}");
    std::fs::write(&file, text.replace("automatic", "operator")).expect("written");
    cluster.start(2);
    wait_for("the refusal to be told", SOON, || {
        let status = cluster.status(0)?.to_string();
        (status.contains("failover") || cluster.last_words(2).contains("failover")).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", cluster.status(0)));
    cluster.stop(2);
    std::fs::write(&file, text).expect("written");
    cluster.start(2);
    cluster.all_vote_of(&[0, 2], 2);
    let line = write(&cluster, 2);
    assert!(matches!(line.told, Told::Executed(_)), "{line:?}");
}

#[test]
fn a_removed_member_and_one_that_forgot_are_refused_by_name() {
    let mut cluster = Cluster::of(Made { members: 3, spare: 0, ..Made::default() });
    // What a member has now, to be put back later: a disk from before.
    let line = write(&cluster, 2);
    assert!(matches!(line.told, Told::Executed(_)), "{line:?}");
    cluster.caught_up(&[0, 1, 2]);
    cluster.stop(2);
    let copy = cluster.dir().join("copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(cluster.data(2)).arg(&copy).status();
    assert!(copied.expect("cp runs").success());
    cluster.start(2);
    cluster.all_vote(3);
    for at in [0, 1, 2] {
        let line = write(&cluster, at);
        assert!(matches!(line.told, Told::Executed(_)), "{line:?}");
    }
    cluster.caught_up(&[0, 1, 2]);
    cluster.kill(2);
    let original = cluster.dir().join("original");
    std::fs::rename(cluster.data(2), &original).expect("put aside");
    std::fs::rename(&copy, cluster.data(2)).expect("put back");
    cluster.launch(2).expect("a process");
    wait_for("the member that forgot to be refused by name", SOON, || {
        cluster.last_words(2).contains("copy of its directory").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:?} {}", cluster.status(0), cluster.last_words(2)));
    // It ends of that, and does not count on.
    wait_for("it to end", SOON, || (!cluster.runs(2)).then_some(())).expect("it ends");
    cluster.launch(2).expect("a process");
    wait_for("it to refuse its directory", SOON, || {
        cluster.last_words(2).contains("must not be started again").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {}", cluster.last_words(2)));
    wait_for("it to end", SOON, || (!cluster.runs(2)).then_some(())).expect("it ends");

    // Then the member is removed, for ever, while it does not run; the original too.
    std::fs::remove_dir_all(cluster.data(2)).expect("wiped");
    std::fs::rename(&original, cluster.data(2)).expect("put back");
    let leader = cluster.leader_among(&[0, 1]);
    let act = ["cluster", "remove", NAMES[2], "--reason", "its disk is from before"];
    let shown =
        cluster.cli(leader, &[&act[..], &["--explain", "--json"]].concat()).executed().expect("explained");
    let token = shown.json().expect("JSON")["token"].as_str().expect("a token").to_owned();
    let done = cluster.cli(leader, &[&act[..], &["--confirm", &token]].concat()).executed().expect("removed");
    assert!(done.stdout.contains("no member any more"), "{done:?}");
    cluster.all_vote_of(&[0, 1], 2);
    cluster.launch(2).expect("a process");
    wait_for("the removed member to be refused by name", SOON, || {
        let said = format!("{:?} {:?} {}", cluster.status(0), cluster.status(1), cluster.last_words(2));
        said.contains("not a member").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:?} {}", cluster.status(0), cluster.last_words(2)));
    cluster.kill(2);
    // Wiped, it joins as a new member under the old name, and gets everything from the first event on.
    std::fs::remove_dir_all(cluster.data(2)).expect("wiped");
    let before = cluster.status(leader).expect("a status").to_string();
    let secret = cluster.secret(leader);
    let joined = cluster.ask_to_join(2, NAMES[2], leader, &secret).executed().expect("let in");
    assert!(!before.contains(joined.stdout.trim()), "an id is never used twice: {joined:?}");
    cluster.start(2);
    cluster.all_vote(3);
    for at in [0, 1, 2] {
        let line = write(&cluster, at);
        assert!(matches!(line.told, Told::Executed(_)), "{line:?}");
    }
    cluster.same_everywhere(&[0, 1, 2]);
}

#[test]
fn a_join_whose_answer_is_lost_is_unknown_and_the_same_command_finishes_it() {
    let mut cluster = Cluster::of(Made { members: 2, spare: 1, flags: &["--failover", "operator"] });
    let secret = cluster.secret(0);
    // The leader dies when it is written down and nobody was told; whoever asked, asked another member.
    cluster.arm(0, Boundary::MemberAdmitted, 1);
    let lost = cluster.ask_to_join(2, NAMES[2], 1, &secret);
    cluster.killed_at(0, Boundary::MemberAdmitted);
    assert_eq!(lost.code, 7, "{lost:?}");
    assert!(lost.stderr.contains("run the same command again"), "{lost:?}");
    cluster.start(0);
    cluster.leader_among(&[0, 1]);
    let said = wait_for("the same command to finish it", SOON, || {
        let said = cluster.ask_to_join(2, NAMES[2], 1, &secret);
        (said.code == 0).then_some(said)
    });
    said.expect("let in");
    cluster.start(2);
    cluster.all_vote(3);
    let events = cluster.same_everywhere(&[0, 1, 2]);
    let admitted = events.iter().filter(|event| event["kind"] == "member.admitted").count();
    assert_eq!(admitted, 3, "the founder and the two that joined, each once");
}

#[test]
fn a_member_that_moved_is_found_and_one_that_only_reads_has_no_key_of_the_authority() {
    let mut cluster = Cluster::of(Made { members: 3, spare: 1, flags: &["--failover", "operator"] });
    // Settings of a running member are not changed under it.
    let file = cluster.data(0).join("member.toml");
    let before = std::fs::read_to_string(&file).expect("settings");
    let refused = cluster.init(0, &["--election-ms", "500-1000"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert_eq!(std::fs::read_to_string(&file).expect("settings"), before, "its log is locked");

    let secret = cluster.secret(0);
    let reader = cluster.ask_to_join_with(3, NAMES[3], 0, &secret, &["--read-only"]);
    reader.executed().expect("let in");
    cluster.start(3);
    assert!(cluster.data(1).join("peer/ca.key").exists(), "one that votes may come to let others in");
    assert!(!cluster.data(3).join("peer/ca.key").exists(), "one that reads never does");
    let head = cluster.head(0).expect("a head");
    cluster.caught_up_to(3, head);

    // Two of them move at once. The leader reaches neither, and so neither hears that it leads.
    for at in [1, 2] {
        cluster.stop(at);
        let file = cluster.data(at).join("member.toml");
        let text = std::fs::read_to_string(&file).expect("settings").replace(":7071", ":7072");
        std::fs::write(&file, text).expect("written");
    }
    for at in [1, 2] {
        cluster.start(at);
    }
    wait_for("the members to be found where they are now", SOON, || {
        let status = cluster.status(0)?;
        let rows = status["members"].as_array()?.clone();
        let moved = |name: &str| {
            rows.iter().any(|row| {
                row["name"] == name && row["peer"].as_str().is_some_and(|peer| peer.ends_with(":7072"))
            })
        };
        (moved(NAMES[1]) && moved(NAMES[2])).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", cluster.status(0)));
    for at in [0, 1, 2] {
        wait_for("a write", SOON, || matches!(write(&cluster, at).told, Told::Executed(_)).then_some(()))
            .expect("executed");
    }
    cluster.same_everywhere(&[0, 1, 2, 3]);
}
