//! The one table of the API: each method and path, who may use it, and what goes in and out.
//!
//! The gate reads who may; the contract at `/v1/openapi.json` is written from the rest, so that
//! neither can say something else than the other.

use super::roles::Permission;
use api::routes as at;

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    /// Everybody; the handler sees no caller.
    Open,
    /// People and programs whose role has the permission, each in its org.
    May(Permission),
    /// Nodes, each for itself.
    Node,
}

/// What a route answers with when all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// JSON of this schema.
    Json(&'static str),
    /// JSON of one of these schemas: the second where it is only asked what would happen.
    Either(&'static str, &'static str),
    /// One page of JSON rows of this schema.
    Page(&'static str),
    /// JSON of this schema, or server-sent events of the other.
    Stream(&'static str, &'static str),
    /// Text of this media type.
    Text(&'static str),
    /// Nothing.
    Nothing,
}

/// One method of one path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) rule: Rule,
    pub(super) summary: &'static str,
    /// Names of its query parameters.
    pub(super) query: &'static [&'static str],
    /// The schema of its body.
    pub(super) body: Option<&'static str>,
    /// Whether it takes an `Idempotency-Key`.
    pub(super) once: bool,
    pub(super) says: Says,
}

const fn get(path: &'static str, rule: Rule, says: Says, summary: &'static str) -> Row {
    Row { method: "GET", path, rule, summary, query: &[], body: None, once: false, says }
}

/// A list: paged, and as fresh as asked for.
const fn list(path: &'static str, may: Permission, row: &'static str, summary: &'static str) -> Row {
    let row = get(path, Rule::May(may), Says::Page(row), summary);
    Row { query: &["cursor", "limit", "at_least"], ..row }
}

/// One thing, as fresh as asked for.
const fn one(path: &'static str, row: &'static str, summary: &'static str) -> Row {
    Row { query: &["at_least"], ..get(path, Rule::May(Read), Says::Json(row), summary) }
}

/// A write with a request id and a receipt.
const fn write(path: &'static str, may: Permission, body: &'static str, summary: &'static str) -> Row {
    let says = Says::Json("Receipt");
    Row {
        method: "POST",
        path,
        rule: Rule::May(may),
        summary,
        query: &[],
        body: Some(body),
        once: true,
        says,
    }
}

/// What a node says.
const fn node(path: &'static str, body: &'static str, says: Says, summary: &'static str) -> Row {
    Row { method: "POST", path, rule: Rule::Node, summary, query: &[], body: Some(body), once: false, says }
}

/// A guarded act on the cluster.
const fn act(path: &'static str, summary: &'static str) -> Row {
    let says = Says::Either("ActDone", "Explained");
    let row = Row { once: false, says, ..write(path, Guarded, "ClusterActRequest", summary) };
    Row { query: &["explain"], ..row }
}

/// A guarded act that is one command in the log, under its request.
const fn guarded(path: &'static str, summary: &'static str) -> Row {
    Row { once: true, body: Some("ActRequest"), ..act(path, summary) }
}

use Permission::{Deploy, Enlarge, Govern, Guarded, Operate, Own, Read, ReadAccess, ReadLogs, ReadServer};
use Rule::{May, Node, Open};
use Says::{Json, Nothing, Stream, Text};

/// Everything there is. What is not here is not served.
pub(super) const TABLE: &[Row] = &[
    Row {
        query: &["plan"],
        says: Says::Either("Receipt", "PlanAnswer"),
        ..write(at::APPLY, Deploy, "ApplyRequest", "Plan or apply a manifest")
    },
    list(at::APPS, Read, "AppRow", "The apps of an org"),
    one(at::APP, "AppRow", "One app"),
    guarded(at::APP_DELETE, "Delete an app with its environments"),
    list(at::ENVS, Read, "EnvRow", "The environments of an app"),
    one(at::ENV, "EnvStatus", "The status of an environment"),
    guarded(at::ENV_DELETE, "Delete an environment with all it has"),
    write(at::SCALE, Deploy, "ScaleRequest", "Scale a process"),
    write(at::RESTART, Deploy, "RestartRequest", "Replace instances by fresh ones"),
    write(at::ROLLBACK, Deploy, "RollbackRequest", "Go back to an earlier release"),
    write(at::DEPLOY, Deploy, "DeployRequest", "Deploy another image"),
    list(at::RELEASES, Read, "ReleaseRow", "Releases, the newest first"),
    list(at::DEPLOYS, Read, "DeployRow", "Deploys, the newest first"),
    one(at::DEPLOY_ONE, "DeployRow", "One deploy"),
    list(at::INSTANCES, Read, "InstanceRow", "Instances"),
    one(at::EXPLAIN, "Explanation", "Why an environment is as it is"),
    list(at::ROUTES, Read, "RouteRow", "The routes of an org"),
    Row {
        query: &["tail", "follow"],
        ..get(at::LOGS, May(ReadLogs), Text("text/plain"), "The log of an instance")
    },
    list(at::NODES, ReadServer, "NodeRow", "Nodes"),
    Row { body: None, ..write(at::NODE_DRAIN, Operate, "", "Move instances away from a node") },
    Row { body: None, ..write(at::NODE_ACTIVATE, Operate, "", "Let a node take instances again") },
    guarded(at::NODE_DISABLE, "Have a node take nothing, and stop what it has at once"),
    guarded(at::NODE_REMOVE, "Forget a disabled node and its credential"),
    list(at::TOKENS, ReadAccess, "TokenRow", "Tokens"),
    write(at::TOKENS, Govern, "TokenRequest", "Make a token; its secret is in this answer only"),
    Row { method: "DELETE", body: None, ..write(at::TOKEN, Govern, "", "Revoke a token") },
    write(at::JOIN_TOKENS, Operate, "JoinTokenRequest", "Make a secret that enrols one node"),
    Row { rule: Open, says: Json("Enrolled"), ..write(at::ENROL, Operate, "EnrolRequest", "Become a node") },
    Row {
        query: &["after", "cluster", "epoch", "event", "poll"],
        ..get(at::AGENT_STREAM, Node, Stream("NodePlan", "NodePlan or LogsAsk"), "An agent's plans and asks")
    },
    Row {
        query: &["after", "cluster", "epoch", "event", "poll"],
        ..get(at::EDGE_STREAM, Node, Stream("EdgePlan", "EdgePlan"), "An edge's plans")
    },
    node(at::LEASE, "Lease", Json("LeaseAnswer"), "Renew a lease"),
    node(at::REPORT, "ReportRequest", Json("ReportAnswer"), "Report changes of instances"),
    node(at::ASK, "bytes", Nothing, "Answer an ask for a log"),
    Row {
        query: &["after", "limit", "wait"],
        ..get(at::EVENTS, May(Read), Stream("EventPage", "EventRow"), "Events")
    },
    Row {
        query: &["cursor", "last", "limit", "actor", "type", "outcome", "since"],
        ..get(at::AUDIT, May(ReadAccess), Stream("AuditPage", "AuditNews"), "What anybody attempted")
    },
    get(
        at::AUDIT_VERIFY,
        May(ReadAccess),
        Says::Page("AuditVerified"),
        "Every member holds its journal against its chain",
    ),
    get(at::REQUEST, May(Read), Json("RequestState"), "What became of a request"),
    Row {
        body: None,
        once: false,
        says: Json("RequestState"),
        ..write(at::REQUEST_VOID, Deploy, "", "A request that was not seen may never run")
    },
    list(at::VIEWS, Read, "ViewRow", "Read views"),
    Row {
        body: None,
        once: false,
        says: Json("RebuildAnswer"),
        ..write(at::VIEW_REBUILD, Operate, "", "Fold a view anew and compare")
    },
    get(at::CLUSTER, May(Read), Json("ClusterStatus"), "The members, and how far each is"),
    Row {
        says: Json("MemberJoinSecret"),
        ..write(at::CLUSTER_JOIN_TOKENS, Enlarge, "MemberJoinRequest", "Make a secret that admits one member")
    },
    act(at::CLUSTER_PROMOTE, "Make a member the one that sequences, where the one that did is gone"),
    act(at::CLUSTER_HANDOVER, "Move the lead from the member that has it to another"),
    act(at::CLUSTER_FENCE, "Make a member refuse to sequence until it learns a higher epoch"),
    Row {
        once: true,
        ..act(at::CLUSTER_ADOPT, "Go on with nodes that hold plans which this log never made")
    },
    Row { once: true, ..act(at::CLUSTER_REMOVE, "Take a member out for ever") },
    Row {
        body: None,
        once: false,
        says: Json("SnapshotDone"),
        ..write(at::CLUSTER_SNAPSHOT, Operate, "", "Make a snapshot of the state now")
    },
    Row {
        body: None,
        once: false,
        says: Json("BackupAsked"),
        ..write(at::CLUSTER_BACKUP, Operate, "", "Make a backup of the log out of turn")
    },
    get(at::HEALTH_LIVE, Open, Json("Live"), "Whether the process answers"),
    get(at::HEALTH_READY, Open, Json("Ready"), "Whether it can do its work"),
    get(at::METRICS, Open, Text("text/plain"), "Figures for Prometheus"),
    get(at::OPENAPI, Open, Text("application/json"), "This contract"),
    get(at::VERSION, Open, Json("Version"), "What runs here"),
    get(at::WHOAMI, May(Read), Json("Whoami"), "Who the token is"),
    write(at::OWN_PASSWORD, Own, "PasswordChange", "Change one's own password"),
    list(at::OWN_TOKENS, Own, "TokenRow", "Tokens of one's own"),
    write(at::OWN_TOKENS, Own, "OwnTokenRequest", "Make a token of one's own, with at most one's own role"),
    Row { method: "DELETE", body: None, ..write(at::OWN_TOKEN, Own, "", "Revoke a token of one's own") },
    Row {
        rule: Open,
        once: false,
        says: Json("LoginAnswer"),
        ..write(at::LOGIN, Own, "LoginRequest", "Begin a session: its secret is in a cookie")
    },
    Row { body: None, once: false, says: Nothing, ..write(at::LOGOUT, Own, "", "End the session") },
    list(at::MEMBERS, ReadAccess, "PersonRow", "Members of the org, who may log in"),
    write(at::MEMBERS, Govern, "PersonRequest", "Add a member"),
    write(at::MEMBER, Govern, "PersonChange", "Give a member another role or password"),
    Row { method: "DELETE", body: None, ..write(at::MEMBER, Govern, "", "Remove a member") },
    write(at::MEMBER_IDENTITY, Govern, "PersonIdentity", "Let a member log in by way of a provider"),
    Row {
        method: "DELETE",
        body: None,
        ..write(at::MEMBER_IDENTITY, Govern, "", "Let a member log in by way of no provider")
    },
];

/// The row of a method and a mounted path. `HEAD` asks what `GET` asks.
pub(super) fn row(method: &str, path: &str) -> Option<&'static Row> {
    let method = if method == "HEAD" { "GET" } else { method };
    TABLE.iter().find(|row| row.path == path && row.method == method)
}

/// The methods of a path, for the `Allow` header.
pub(super) fn methods(path: &str) -> String {
    let methods: Vec<&str> = TABLE.iter().filter(|row| row.path == path).map(|row| row.method).collect();
    methods.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_and_the_list_of_paths_are_the_same() {
        let table: BTreeSet<&str> = TABLE.iter().map(|row| row.path).collect();
        let list: BTreeSet<&str> = at::ALL.iter().copied().collect();
        assert_eq!(table, list);
        let distinct: BTreeSet<_> = TABLE.iter().map(|row| (row.method, row.path)).collect();
        assert_eq!(distinct.len(), TABLE.len());
    }

    #[test]
    fn only_what_a_node_does_is_under_node_and_only_nodes_may() {
        for row in TABLE {
            assert_eq!(row.rule == Node, row.path.starts_with("/v1/node/"), "{}", row.path);
        }
    }

    #[test]
    fn no_write_is_open_or_for_those_who_only_read_but_enrolling_and_logging_in() {
        let reads = [Read, ReadLogs, ReadServer, ReadAccess];
        for row in TABLE.iter().filter(|row| row.method != "GET") {
            let changes = match row.rule {
                May(permission) => !reads.contains(&permission),
                Node => true,
                Open => [at::ENROL, at::LOGIN].contains(&row.path),
            };
            assert!(changes, "{} {}", row.method, row.path);
        }
    }
}
