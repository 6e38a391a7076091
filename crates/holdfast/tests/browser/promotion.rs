//! Guarded acts in a cluster of three real servers that wait for an operator: explained, confirmed,
//! gone stale, and abandoned at each step.

use crate::{
    driver::{At, Browser, SOON},
    reading::{accessible, picture},
    scene::{Cluster, NAMES},
};
use demo::wait_for;
use std::{net::TcpStream, sync::Arc, time::Duration};

const URL: &str = "http://127.0.0.1:7070";

/// A browser on the machine of a member.
fn beside(cluster: &Cluster, at: usize) -> At {
    let (host, other) = (cluster.host(at).clone(), cluster.host(at).clone());
    At {
        place: Box::new(move |command| host.place(command)),
        connect: Arc::new(move |port| other.inside(|| TcpStream::connect(("127.0.0.1", port)))),
    }
}

fn epoch(cluster: &Cluster, at: usize) -> u64 {
    cluster.status(at).expect("a status")["epoch"].as_u64().expect("a number")
}

/// Has an act explained: the page that could be confirmed.
fn explain(browser: &Browser, act: &str, member: &str, reason: &str) {
    browser.go(&format!("{URL}/cluster"));
    browser.unfold(act);
    browser.choose(&format!("#{act}-node"), member);
    browser.type_in(&format!("#{act}-reason"), reason);
    browser.send(act);
}

#[test]
fn a_promotion_is_explained_abandoned_confirmed_and_what_it_makes_stale_is_refused() {
    let mut cluster = Cluster::operated();
    let before = epoch(&cluster, 1);
    let browser = Browser::start(&beside(&cluster, 1));
    browser.log_in(URL, cluster.token());
    explain(&browser, "promote", NAMES[1], "the primary is gone");
    browser.reads("An invariant forbids it");
    accessible(&browser, "a denial");
    cluster.kill(0);
    browser.go(&format!("{URL}/cluster"));
    wait_for("the loss of the primary to be on the page", SOON, || {
        browser.seen().contains("nobody that this member knows of").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {}", browser.seen()));
    accessible(&browser, "a cluster without a leader");
    abandoned(&cluster, browser, before);
    let browser = Browser::start(&beside(&cluster, 1));
    browser.log_in(URL, cluster.token());
    explained(&browser);
    accessible(&browser, "an explanation");
    browser.picture(&picture("promotion-light.png"));
    let promotion = browser.another_window();
    explain(&browser, "fence", NAMES[1], "to be sure");
    browser.reads("Nothing has been done yet.");
    browser.reads("holdfast cluster fence two --reason 'to be sure'");
    let fence = browser.window(&promotion);
    browser.send("promote");
    browser.reads("Promote a member: executed");
    browser.reads("sequences");
    browser.reads("The log has no request for this.");
    assert_eq!(epoch(&cluster, 1), before + 1);
    browser.window(&fence);
    browser.send("fence");
    browser.reads("What was shown has changed");
    browser.reads(&format!("epoch was {before} and is {}", before + 1));
    browser.reads("not executed");
    accessible(&browser, "an act that went stale");
    wait_for("the new authority on the page", SOON, || {
        browser.go(&format!("{URL}/cluster"));
        browser.seen().contains("Who sequences\ntwo").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {}", browser.seen()));
    assert!(!cluster.status(1).expect("a status").to_string().contains("\"fenced\":true"));
    for scheme in ["light", "dark"] {
        browser.likes(scheme);
        browser.go(&format!("{URL}/cluster"));
        accessible(&browser, &format!("the cluster ({scheme})"));
        browser.picture(&picture(&format!("cluster-{scheme}.png")));
    }
}

/// Asks until the promotion is not denied any more: the primary was heard a moment ago.
fn explained(browser: &Browser) {
    wait_for("a promotion that is not denied", SOON, || {
        explain(browser, "promote", NAMES[1], "the primary is gone");
        browser.seen().contains("Nothing has been done yet.").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {}", browser.seen()));
}

/// The browser is closed with the form filled in, and with the explanation on the page: nothing happens.
fn abandoned(cluster: &Cluster, browser: Browser, before: u64) {
    browser.go(&format!("{URL}/cluster"));
    browser.unfold("promote");
    browser.type_in("#promote-reason", "never sent");
    drop(browser);
    assert_eq!(epoch(cluster, 1), before);
    let browser = Browser::start(&beside(cluster, 1));
    browser.log_in(URL, cluster.token());
    explained(&browser);
    drop(browser);
    // Longer than an election would take.
    let since = std::time::Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        assert_eq!(cluster.leader_of(&[1, 2]), None, "nobody confirmed it");
    }
    assert_eq!(epoch(cluster, 1), before);
}
