//! Authority, members and the disk of this one: what `holdfast cluster status` tells, as far as this member
//! knows it without asking another.

use super::Page;
use crate::{cluster::Cluster, http::Shared};
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::Instant;
use types::limits;

/// How a member takes part, in the words of its consensus.
const ROLES: [&str; 5] = ["leader", "follower", "candidate", "learner", "stopped"];
/// What lies in the directory of a log; what has no name here is `other`.
const PARTS: [&str; 6] = ["segments", "archive", "snapshots", "aside", "quarantine", "other"];
/// Directories inside one another in a log, at most.
const DEPTH: usize = 4;

/// Bytes by the parts of [`PARTS`], and when they were added up.
#[derive(Default)]
pub(super) struct Sizes(Mutex<Option<(Instant, [u64; PARTS.len()])>>);

pub(super) fn authority(http: &Shared, page: &mut Page) {
    let (head, leads) = (http.core.head(), http.core.leads());
    let status = http.cluster.as_ref().map(|cluster| cluster.log().status());
    let state = status.as_ref().map_or("leader", |status| status.state);
    let roles = ROLES.map(|role| (role, u8::from(role == state)));
    page.by(("role", "gauge", "1 for how this member takes part."), "role", roles);
    page.gauge("leads", "1 if this member sequences.", u8::from(leads));
    page.gauge("log_epoch", "The authority in force.", head.epoch);
    page.gauge("log_term", "The last election known here.", status.as_ref().map_or(head.term, |it| it.term));
    page.counter(
        "leader_changes_total",
        "Epochs opened in this log: one for each time that a member took the lead.",
        head.epoch,
    );
    let begun = http.core.figures().leads_begun.load(Relaxed);
    page.counter("leads_begun_total", "Times that this process began to sequence.", begun);
    let quorum = http.cluster.as_ref().is_none_or(heard_lately);
    page.gauge("quorum", "1 if a leader with a majority behind it was heard lately.", u8::from(quorum));
    let way = http.cluster.as_ref().and_then(|cluster| cluster.why_not_ready(leads));
    let writable = way.is_none() && http.core.is_open() && !http.core.is_full();
    page.gauge(
        "writable",
        "1 if a write can be done through this member, as far as it knows.",
        u8::from(writable),
    );
}

fn heard_lately(cluster: &Cluster) -> bool {
    cluster.age().is_some_and(|age| age < Duration::from(limits::PEER_CURRENT))
}

pub(super) fn members(http: &Shared, page: &mut Page) {
    let Some(cluster) = &http.cluster else { return };
    let status = cluster.log().status();
    page.gauge("members", "Members of the cluster.", status.members.len());
    page.gauge("voters", "Members that decide with the others.", status.voters.len());
    page.gauge(
        "fenced",
        "1 if this member sequences nothing until it learns a higher epoch.",
        u8::from(status.fenced.is_some()),
    );
    page.gauge("aside_files", "Files of entries that were never committed, kept here.", status.aside.len());
    page.gauge(
        "log_damaged",
        "1 if damaged files of the log are kept here.",
        u8::from(cluster.damage().is_some()),
    );
    let age = cluster.age().map_or("+Inf".to_owned(), |age| age.as_secs_f64().to_string());
    page.gauge("read_age_seconds", "How old what is read here is at most.", age);
    let labels = |node: &types::NodeId| {
        let name = status.members.get(node).map(|member| member.name.clone()).unwrap_or_default();
        (node.to_string(), name)
    };
    page.head(
        "member_behind_entries",
        "gauge",
        "Entries that a member has not stored yet, as its leader knows.",
    );
    for (node, matched) in status.matched.iter().filter(|(node, _)| status.members.contains_key(node)) {
        let (id, name) = labels(node);
        let behind = status.committed.get().saturating_sub(matched.get());
        page.line("member_behind_entries", &[("member", &id), ("name", &name)], behind);
    }
    let (contacts, health, now) = (cluster.contacts().all(), cluster.transport().health(), http.core.now());
    page.head("member_contact_age_seconds", "gauge", "Since anything was heard of another member.");
    for node in status.members.keys().filter(|node| **node != status.own) {
        let asked = contacts.get(node).map(|contact| contact.heard);
        let heard = asked.max(health.get(node).and_then(|health| health.heard));
        let Some(heard) = heard else { continue };
        let (id, name) = labels(node);
        let age = now.since(heard).as_ms() as f64 / 1000.0;
        page.line("member_contact_age_seconds", &[("member", &id), ("name", &name)], age);
    }
}

pub(super) fn disk(http: &Shared, page: &mut Page) {
    let Some(cluster) = &http.cluster else { return };
    let (dir, now) = (cluster.data_dir().join("log"), http.core.now());
    let report = cluster.report();
    if let Some(free) = report.disk_free {
        page.gauge("disk_free_bytes", "Free space of the log's file system.", free);
    }
    if let Ok(size) = rt::RealDisk.usable_space(&dir) {
        page.gauge("disk_size_bytes", "What of the log's file system can be used, free or not.", size);
    }
    page.gauge(
        "disk_short",
        "1 while writes are refused for want of space.",
        u8::from(report.short_of_space),
    );
    if let Some((event, made)) = report.snapshot {
        let age = now.since(made).as_ms() as f64 / 1000.0;
        page.gauge("snapshot_event", "The event that the newest snapshot reflects.", event);
        page.gauge("snapshot_age_seconds", "Since the newest snapshot was made.", age);
    }
    let sizes = http.figures.sizes.of(&dir);
    let parts = PARTS.iter().copied().zip(sizes);
    page.by(("log_bytes", "gauge", "Bytes that the log takes on its disk."), "part", parts);
}

impl Sizes {
    /// The sizes under a directory, at most [`limits::METRICS_FILES_EVERY`] old. Blocks on the disk.
    fn of(&self, dir: &Path) -> [u64; PARTS.len()] {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let every = Duration::from(limits::METRICS_FILES_EVERY);
        if let Some((at, sizes)) = *known
            && at.elapsed() < every
        {
            return sizes;
        }
        let mut sizes = [0; PARTS.len()];
        add(&mut sizes, dir.to_owned(), None, DEPTH);
        *known = Some((Instant::now(), sizes));
        sizes
    }
}

/// Adds up what is below a directory. What goes away meanwhile is not counted.
fn add(sizes: &mut [u64; PARTS.len()], dir: PathBuf, part: Option<usize>, depth: usize) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.metadata() else { continue };
        if kind.is_dir() && depth > 0 {
            let name = entry.file_name();
            let named = PARTS.iter().position(|part| name.to_str() == Some(part));
            add(sizes, entry.path(), part.or(named).or(Some(PARTS.len() - 1)), depth - 1);
        } else if kind.is_file() {
            sizes[part.unwrap_or(0)] += kind.len();
        }
    }
}
