//! Pages about backups, restores, and nodes that hold plans of the log before.

use crate::{
    hosts::{SOON, Site},
    page::Page,
};
use demo::{Role, wait_for};
use serde_json::Value;
use std::fs;

fn status(site: &Site) -> Option<Value> {
    site.platform.cli(&["cluster", "status", "--json"]).ok()?.json().ok()
}

/// Waits until both nodes hold a plan that the log never made, and have said what they have.
fn apart(site: &Site) {
    wait_for("two nodes apart", SOON, || {
        let rows = status(site)?["apart"].as_array()?.clone();
        let heard = |row: &Value| row["role"] == "edge" || !row["keeps"].as_array().is_none_or(Vec::is_empty);
        (rows.len() == 2 && rows.iter().all(heard)).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", status(site)));
}

fn nobody_apart(site: &Site) {
    wait_for("the nodes to come over", SOON, || {
        let apart = status(site)?["apart"].as_array().map_or(0, Vec::len);
        (apart == 0).then_some(())
    })
    .expect("adopted");
}

#[test]
fn pages_about_backups_and_restores() {
    let mut site = Site::new();
    let (mut page, mut failing) = (Page::read("restore"), Page::read("backup-failing"));
    let place = site.platform.dir().join("backups");
    fs::create_dir(&place).expect("made");
    let (place, data) = (place.display().to_string(), site.data(Role::Server));
    let words = [("PLACE", place.as_str()), ("DATA", &data), ("KEY", "backup.key"), ("OTHER", "elsewhere")];
    page.walk("prepare", &site, &words);
    let flags = ["--backup-to", &place, "--backup-key-file", "backup.key", "--backup-archive", "1s"];
    site.platform.serve_with(&flags);
    site.serve();
    wait_for("the first backup", SOON, || status(&site)?["backup"]["last"]["event"].as_u64()).expect("made");
    page.walk("by-hand", &site, &words);
    the_store_goes_away(&site, &mut failing, &words);

    // What a mistake looks like: version 2, and the time before it.
    let before = status(&site).and_then(|status| status["head"].as_u64()).expect("an event").to_string();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let time = date(now.as_secs());
    std::thread::sleep(std::time::Duration::from_millis(1100));
    site.apply("v2").expect("an answer").executed().expect("version 2 deployed");
    site.answered("v2");
    wait_for("all of it to be archived", SOON, || {
        (status(&site)?["backup"]["archive"]["behind_events"] == 0).then_some(())
    })
    .expect("archived");

    page.walk("there", &site, &words);
    site.platform.kill_hard(Role::Server);
    page.walk("keep", &site, &words);
    let into = |new: &str| {
        [&words[..], &[("NEW", new), ("EVENT", &before), ("TIME", &time)]]
            .concat()
            .iter()
            .map(|(word, value)| ((*word).to_owned(), (*value).to_owned()))
            .collect::<Vec<_>>()
    };
    let walk = |page: &mut Page, site: &Site, step: &str, new: &str| {
        let words = into(new);
        let words: Vec<(&str, &str)> =
            words.iter().map(|(word, value)| (word.as_str(), value.as_str())).collect();
        page.says(step, site, &words)
    };
    walk(&mut page, &site, "time", "by-time");
    walk(&mut page, &site, "before", "by-event");
    // The whole of it, in the place of the one that is lost.
    fs::rename(&data, site.platform.dir().join("lost")).expect("the disk is lost");
    walk(&mut page, &site, "restore", &data);
    walk(&mut page, &site, "start", &data);
    site.platform.serve_with(&[]);
    site.platform.start_server().expect("the restored server");
    apart(&site);
    assert!(walk(&mut page, &site, "explain", &data).contains("adopt"));
    walk(&mut page, &site, "adopt", &data);
    nobody_apart(&site);
    site.answered("v2");
    another_log(&mut site, &data);
    site.answered("v1");
    site.platform.stop().expect("an orderly end");
}

fn the_store_goes_away(site: &Site, page: &mut Page, words: &[(&str, &str)]) {
    let place = site.platform.dir().join("backups");
    let away = site.platform.dir().join("away");
    fs::rename(&place, &away).expect("not mounted");
    wait_for("the failure to be told", SOON, || {
        page.says("look", site, words).contains("No such file").then_some(())
    })
    .expect("told");
    fs::rename(&away, &place).expect("mounted again");
    page.walk("make", site, words);
    page.walk("verify", site, words);
    fs::create_dir(site.platform.dir().join("elsewhere")).expect("made");
    page.walk("aside", site, words);
    wait_for("all to work again", SOON, || {
        page.walk("over", site, words);
        let failures = status(site)?["backup"]["failures"].as_array().cloned().unwrap_or_default();
        failures.iter().all(|failure| failure["goes_on"] == false).then_some(())
    })
    .expect("by itself");
}

/// The server goes on from before the mistake: another log for its nodes, once more.
fn another_log(site: &mut Site, data: &str) {
    let mut page = Page::read("nodes-apart");
    site.platform.kill_hard(Role::Server);
    fs::rename(data, site.platform.dir().join("lost-too")).expect("taken away");
    fs::rename(site.platform.dir().join("by-event"), data).expect("the one before the mistake");
    site.platform.start_server().expect("the restored server");
    wait_for("both nodes apart", SOON, || (status(site)?["apart"].as_array()?.len() == 2).then_some(()))
        .expect("told");
    // The agent has said what runs there.
    wait_for("what an adoption stops", SOON, || {
        let rows = status(site)?["apart"].as_array()?.clone();
        rows.iter().any(|row| row["stops"].as_array().is_some_and(|stops| !stops.is_empty())).then_some(())
    })
    .expect("version 2 is not of this log");
    assert!(page.says("look", site, &[]).contains("APART"));
    page.walk("explain", site, &[]);
    page.walk("adopt", site, &[]);
    nobody_apart(site);
    page.walk("over", site, &[]);
}

/// A time as people write it.
fn date(seconds: u64) -> String {
    let said = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output();
    String::from_utf8(said.expect("date").stdout).expect("text").trim().to_owned()
}
