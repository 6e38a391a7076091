//! The server that the command line is pointed at, and what it knows of the others.

use super::Finding;
use crate::{
    context::Context,
    output::{ago, span},
};
use api::{BackupStatus, ClientError, ClusterStatus, Code, NodeRow, ViewRow, Whoami};
use rt::Clock as _;
use types::{DurationMs, Timestamp, limits};

/// A clock that differs by more wants attention: leases are judged in seconds.
const CLOCK_OFF: DurationMs = DurationMs::from_secs(2);
/// A token that ends sooner wants attention, unless its life is short by itself: then in its last quarter.
const TOKEN_ENDS: DurationMs = DurationMs::from_secs(7 * 24 * 3600);
/// A backup that is older wants attention: two of the usual intervals.
const BACKUP_OLD: DurationMs = DurationMs::from_secs(2 * 24 * 3600);

pub(super) async fn look(context: &Context) -> Vec<Finding> {
    let server = context.client.server();
    let began = rt::SystemClock.now();
    let version = match context.client.version().await {
        Ok(version) => version,
        Err(error) => {
            let next = "holdfast status --server URL";
            return vec![Finding::attention("server", format!("{server}: {error}"), next)];
        }
    };
    let ended = rt::SystemClock.now();
    let mut findings = vec![Finding::ok("server", format!("{server} answers, Holdfast {}", version.version))];
    findings.extend(version.at.map(|at| clock(at, began, ended)));
    findings.push(match context.client.ready().await {
        Ok(ready) => match ready.reason {
            Some(why) => Finding::attention("ready", why, "holdfast cluster status"),
            None => Finding::ok("ready", format!("takes writes, as of event {}", ready.head)),
        },
        Err(error) => Finding::attention("ready", error.to_string(), "holdfast cluster status"),
    });
    match context.client.whoami().await {
        Ok(who) => findings.push(token(&who, ended)),
        Err(error) => {
            let next = "export HOLDFAST_TOKEN=…";
            findings.push(Finding::attention("token", error.to_string(), next));
            return findings;
        }
    }
    seen(&mut findings, "members", context.client.cluster().await, |status| members(&status));
    seen(&mut findings, "nodes", context.client.nodes().await, |rows| nodes(&rows, ended));
    seen(&mut findings, "views", context.client.views().await, |rows| views(&rows));
    findings
}

/// What was asked for, unless this token may not see it.
fn seen<T>(
    findings: &mut Vec<Finding>,
    check: &'static str,
    asked: Result<T, ClientError>,
    found: impl FnOnce(T) -> Vec<Finding>,
) {
    match asked {
        Ok(answer) => findings.extend(found(answer)),
        Err(error) if error.code() == Some(Code::Forbidden) => {
            findings.push(Finding::skipped(check, "this token may not see them"));
        }
        Err(error) => {
            findings.push(Finding::attention(check, error.to_string(), "holdfast cluster status"));
        }
    }
}

/// The server's clock was read at some time between these two.
fn clock(server: Timestamp, began: Timestamp, ended: Timestamp) -> Finding {
    let behind = server.since(ended);
    let ahead = began.since(server);
    match behind.max(ahead) > CLOCK_OFF {
        false => Finding::ok("clock", "agrees with the server's"),
        true => {
            let (by, how) = if behind > ahead { (behind, "behind") } else { (ahead, "ahead of") };
            Finding::attention("clock", format!("{} {how} the server's", span(by)), "timedatectl")
        }
    }
}

fn token(who: &Whoami, now: Timestamp) -> Finding {
    let role = serde_json::to_value(who.role).ok();
    let role = role.as_ref().and_then(|role| role.as_str()).unwrap_or("no role");
    let what = format!("{}, {role}", who.principal);
    let life = |end: Timestamp| who.token.map_or(TOKEN_ENDS.as_ms() * 4, |id| end.since(id.time()).as_ms());
    let soon = |end: &Timestamp| *end < now.plus(DurationMs::from_ms(life(*end) / 4).min(TOKEN_ENDS));
    match who.expires.filter(soon) {
        Some(end) => {
            let next = match &who.member {
                Some(name) => format!("holdfast login {name} --replace"),
                None => format!("holdfast tokens create NAME --role {role}"),
            };
            Finding::attention("token", format!("{what}; it ends in {}", span(end.since(now))), next)
        }
        None => Finding::ok("token", what),
    }
}

fn members(status: &ClusterStatus) -> Vec<Finding> {
    let next = "holdfast cluster status";
    let mut findings = Vec::new();
    let leader = status.members.iter().find(|row| row.leads);
    if leader.is_none() || !status.quorum {
        findings.push(Finding::attention("members", "no member leads with a majority behind it", next));
    }
    for row in &status.members {
        if let Some(trouble) = &row.trouble {
            findings.push(Finding::attention("members", format!("{}: {trouble}", row.name), next));
        } else if row.short_of_space {
            findings.push(Finding::attention("members", format!("{} is short of space", row.name), next));
        } else if row.fenced {
            findings.push(Finding::attention("members", format!("{} is fenced", row.name), next));
        }
    }
    if !status.apart.is_empty() {
        let what = format!("{} nodes hold plans that this log never made", status.apart.len());
        let next = "holdfast cluster adopt --reason \"…\" --explain";
        findings.push(Finding::attention("members", what, next));
    }
    if let (Some(leader), true) = (leader, findings.is_empty()) {
        let what =
            format!("{} of them, {} leads in epoch {}", status.members.len(), leader.name, status.epoch);
        findings.push(Finding::ok("members", what));
    }
    findings.push(backups(status.backup.as_ref()));
    findings
}

fn backups(status: Option<&BackupStatus>) -> Finding {
    let make = "holdfast cluster backup --to PLACE --key-file FILE";
    let Some(status) = status else {
        return Finding::attention("backups", "there was never one", make);
    };
    if let Some(failure) = status.failures.iter().find(|failure| failure.goes_on) {
        let what = format!("{} fails: {}", failure.step, failure.why);
        return Finding::attention("backups", what, "holdfast cluster status");
    }
    match &status.last {
        None => Finding::attention("backups", "none was made yet", "holdfast cluster backup"),
        Some(last) => {
            let age = DurationMs::from_ms(last.age_ms);
            let what = format!("the last one has event {} and is {} old", last.event, span(age));
            match age > BACKUP_OLD {
                true => Finding::attention("backups", what, "holdfast cluster backup"),
                false => Finding::ok("backups", what),
            }
        }
    }
}

fn nodes(rows: &[NodeRow], now: Timestamp) -> Vec<Finding> {
    let silent = |row: &&NodeRow| row.last_seen.is_none_or(|at| now.since(at) > limits::LEASE_OFFLINE);
    let mut findings: Vec<Finding> = rows
        .iter()
        .filter(silent)
        .map(|row| {
            let since = row
                .last_seen
                .map_or("was never heard".to_owned(), |at| format!("was last heard {} ago", ago(at)));
            Finding::attention("nodes", format!("{} {since}", row.name), "holdfast nodes list")
        })
        .collect();
    let short = rows.iter().filter_map(|row| Some((row, row.pressure?)));
    findings.extend(short.map(|(row, reason)| {
        let what = format!("{} takes no new instances: {reason}", row.name);
        Finding::attention("nodes", what, "holdfast nodes list")
    }));
    if rows.is_empty() {
        findings.push(Finding::attention("nodes", "there are none", "holdfast nodes join-token"));
    } else if findings.is_empty() {
        findings.push(Finding::ok("nodes", format!("{}, all heard lately", rows.len())));
    }
    findings
}

fn views(rows: &[ViewRow]) -> Vec<Finding> {
    let aside = rows.iter().filter_map(|row| Some((row, row.quarantined.as_ref()?)));
    let mut findings: Vec<Finding> = aside
        .map(|(row, why)| {
            let what = format!("{} was set aside: {why}", row.name);
            Finding::attention("views", what, format!("holdfast views rebuild {}", row.name))
        })
        .collect();
    if findings.is_empty() {
        let behind = rows.iter().map(|row| row.behind).max().unwrap_or(0);
        findings.push(Finding::ok("views", format!("{}, at most {behind} events behind", rows.len())));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn a_clock_is_judged_by_when_it_can_have_been_read() {
        let at = Timestamp::from_ms;
        let verdict = |server| clock(at(server), at(100_000), at(103_000)).verdict;
        assert_eq!(verdict(101_000), Verdict::Ok);
        assert_eq!(verdict(98_500), Verdict::Ok);
        assert_eq!(verdict(97_000), Verdict::Attention);
        assert_eq!(verdict(106_000), Verdict::Attention);
        assert!(clock(at(200_000), at(100_000), at(100_001)).what.contains("behind"));
    }

    #[test]
    fn a_token_wants_attention_near_the_end_of_its_own_life() {
        let (hour, made) = (3_600_000, 1_000_000_000);
        let verdict = |life: u64, after: u64| {
            let who = Whoami {
                principal: "ann".into(),
                member: Some("ann".parse().expect("a name")),
                role: api::TokenRole::Viewer,
                org: None,
                token: Some(types::TokenId::from_parts(Timestamp::from_ms(made), 1)),
                expires: Some(Timestamp::from_ms(made + life)),
                cluster: String::new(),
            };
            let found = token(&who, Timestamp::from_ms(made + after));
            assert!(
                found.verdict == Verdict::Ok || found.next.as_deref() == Some("holdfast login ann --replace")
            );
            found.verdict
        };
        assert_eq!(verdict(12 * hour, hour), Verdict::Ok);
        assert_eq!(verdict(12 * hour, 10 * hour), Verdict::Attention);
        assert_eq!(verdict(90 * 24 * hour, 80 * 24 * hour), Verdict::Ok);
        assert_eq!(verdict(90 * 24 * hour, 84 * 24 * hour), Verdict::Attention);
    }

    #[test]
    fn backups_that_fail_or_are_old_want_attention() {
        let made = |age_ms| api::BackupRow {
            id: "b".into(),
            event: types::EventId::new(7),
            at: Timestamp::ZERO,
            age_ms,
        };
        let status = BackupStatus { last: Some(made(1000)), ..BackupStatus::default() };
        assert_eq!(backups(Some(&status)).verdict, Verdict::Ok);
        let old = BackupStatus { last: Some(made(BACKUP_OLD.as_ms() + 1)), ..BackupStatus::default() };
        assert_eq!(backups(Some(&old)).verdict, Verdict::Attention);
        let failure = api::BackupFailure {
            step: "archive".into(),
            why: "no space".into(),
            at: Timestamp::ZERO,
            goes_on: true,
        };
        let failing = BackupStatus { failures: vec![failure], ..status };
        assert!(backups(Some(&failing)).what.contains("no space"));
        assert_eq!(backups(None).verdict, Verdict::Attention);
    }
}
