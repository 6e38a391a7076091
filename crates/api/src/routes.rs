//! Every path of the API, in the form that the server mounts, and how a client fills one.

/// The header that names a write's request id.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header of answers that names the event they reflect.
pub const HOLDFAST_EVENT: &str = "holdfast-event";
/// The header of answers of a member that does not lead: for how many milliseconds it has not heard a
/// leader.
pub const HOLDFAST_AGE: &str = "holdfast-age";
/// The header with which a client asks to be sent to the leader itself: `redirect`.
pub const HOLDFAST_FORWARD: &str = "holdfast-forward";
/// The header of an event stream's reader that says the last id it has.
pub const LAST_EVENT_ID: &str = "last-event-id";
/// The header that carries the token of a guarded act.
pub const CONFIRM: &str = "holdfast-confirm";
/// The header that says who confirms a guarded act: `person` or, without it, `script`.
pub const CONFIRMED_BY: &str = "holdfast-confirmed-by";
/// The header in which a write of a session says its CSRF token.
pub const CSRF: &str = "holdfast-csrf";
/// The header with which a member that hands a request on says where it came from: taken from members only.
pub const HOLDFAST_SOURCE: &str = "holdfast-source";
/// The query of a guarded act that is only to be explained: `POST path?explain`.
pub const EXPLAIN_FLAG: &str = "explain";

/// `POST`: plan or apply a manifest.
pub const APPLY: &str = "/v1/orgs/{org}/apply";
/// `GET`: the apps of an org.
pub const APPS: &str = "/v1/orgs/{org}/apps";
/// `GET`: one app.
pub const APP: &str = "/v1/orgs/{org}/apps/{app}";
/// `POST`, guarded: delete an app with its environments.
pub const APP_DELETE: &str = "/v1/orgs/{org}/apps/{app}/delete";
/// `GET`: the environments of an app.
pub const ENVS: &str = "/v1/orgs/{org}/apps/{app}/envs";
/// `GET`: the status of an environment.
pub const ENV: &str = "/v1/orgs/{org}/apps/{app}/envs/{env}";
/// `POST`, guarded: delete an environment with all it has.
pub const ENV_DELETE: &str = "/v1/orgs/{org}/apps/{app}/envs/{env}/delete";
/// `POST`: scale a process.
pub const SCALE: &str = "/v1/orgs/{org}/apps/{app}/envs/{env}/scale";
/// `POST`: restart.
pub const RESTART: &str = "/v1/orgs/{org}/apps/{app}/envs/{env}/restart";
/// `POST`: roll back.
pub const ROLLBACK: &str = "/v1/orgs/{org}/apps/{app}/envs/{env}/rollback";
/// `POST`: deploy another image.
pub const DEPLOY: &str = "/v1/orgs/{org}/apps/{app}/envs/{env}/deploy";
/// `GET`: releases.
pub const RELEASES: &str = "/v1/orgs/{org}/apps/{app}/envs/{env}/releases";
/// `GET`: deploys, the newest first.
pub const DEPLOYS: &str = "/v1/orgs/{org}/apps/{app}/envs/{env}/deploys";
/// `GET`: one deploy.
pub const DEPLOY_ONE: &str = "/v1/orgs/{org}/apps/{app}/envs/{env}/deploys/{deploy}";
/// `GET`: instances.
pub const INSTANCES: &str = "/v1/orgs/{org}/apps/{app}/envs/{env}/instances";
/// `GET`: why the environment is as it is.
pub const EXPLAIN: &str = "/v1/orgs/{org}/apps/{app}/envs/{env}/explain";
/// `GET`: the routes of an org.
pub const ROUTES: &str = "/v1/orgs/{org}/routes";
/// `GET`: the log of an instance, as text.
pub const LOGS: &str = "/v1/orgs/{org}/instances/{id}/logs";

/// `GET`: nodes.
pub const NODES: &str = "/v1/nodes";
/// `POST`: take no new instances, and move the present ones away.
pub const NODE_DRAIN: &str = "/v1/nodes/{node}/drain";
/// `POST`: take instances again.
pub const NODE_ACTIVATE: &str = "/v1/nodes/{node}/activate";
/// `POST`, guarded: take nothing, and stop what is there at once.
pub const NODE_DISABLE: &str = "/v1/nodes/{node}/disable";
/// `POST`, guarded: a disabled node is none any more.
pub const NODE_REMOVE: &str = "/v1/nodes/{node}/remove";
/// `GET`: tokens. `POST`: make one.
pub const TOKENS: &str = "/v1/tokens";
/// `DELETE`: revoke.
pub const TOKEN: &str = "/v1/tokens/{id}";
/// `POST`: make a single-use secret that enrols a node.
pub const JOIN_TOKENS: &str = "/v1/join-tokens";
/// `POST`: become a node. Needs no bearer token.
pub const ENROL: &str = "/v1/enrol";

/// `GET`: members, and how far each of them is.
pub const CLUSTER: &str = "/v1/cluster";
/// `POST`: make a single-use secret that admits a member.
pub const CLUSTER_JOIN_TOKENS: &str = "/v1/cluster/join-tokens";
/// `POST`, guarded: give authority to a member whose primary is gone.
pub const CLUSTER_PROMOTE: &str = "/v1/cluster/promote";
/// `POST`, guarded: give authority from a primary that lives to another member.
pub const CLUSTER_HANDOVER: &str = "/v1/cluster/handover";
/// `POST`, guarded: the node that is asked sequences nothing until it learns a higher epoch.
pub const CLUSTER_FENCE: &str = "/v1/cluster/fence";
/// `POST`, guarded: take a member out for ever.
pub const CLUSTER_REMOVE: &str = "/v1/cluster/remove";
/// `POST`, guarded: go on with agents that hold plans from ahead of this log.
pub const CLUSTER_ADOPT: &str = "/v1/cluster/adopt";
/// `POST`: make a snapshot now, on the node that is asked.
pub const CLUSTER_SNAPSHOT: &str = "/v1/cluster/snapshot";
/// `POST`: make a backup out of turn, on the member that leads.
pub const CLUSTER_BACKUP: &str = "/v1/cluster/backup";

/// `GET`, node only: an agent's plans and asks.
pub const AGENT_STREAM: &str = "/v1/node/agent-stream";
/// `GET`, node only: an edge's plans.
pub const EDGE_STREAM: &str = "/v1/node/edge-stream";
/// `POST`, node only: renew the lease.
pub const LEASE: &str = "/v1/node/lease";
/// `POST`, node only: transitions of instances.
pub const REPORT: &str = "/v1/node/report";
/// `POST`, node only: the bytes that an ask wanted.
pub const ASK: &str = "/v1/node/asks/{ask}";

/// `GET`: a page of events or, if the client accepts `text/event-stream`, a stream of them.
pub const EVENTS: &str = "/v1/events";
/// `GET`: what anybody attempted, of the log and of all members' journals.
pub const AUDIT: &str = "/v1/audit";
/// `GET`: every member holds its journal against its chain.
pub const AUDIT_VERIFY: &str = "/v1/audit/verify";
/// `GET`: what became of a request.
pub const REQUEST: &str = "/v1/requests/{id}";
/// `POST`: a request that was not seen may never run.
pub const REQUEST_VOID: &str = "/v1/requests/{id}/void";
/// `GET`: read views.
pub const VIEWS: &str = "/v1/views";
/// `POST`: fold a view anew and compare.
pub const VIEW_REBUILD: &str = "/v1/views/{name}/rebuild";

/// `GET`, open to all: the process answers.
pub const HEALTH_LIVE: &str = "/health/live";
/// `GET`, open to all: it can do its work.
pub const HEALTH_READY: &str = "/health/ready";
/// `GET`, open to all: figures for Prometheus.
pub const METRICS: &str = "/metrics";
/// `GET`, open to all: the contract.
pub const OPENAPI: &str = "/v1/openapi.json";
/// `GET`, open to all: what runs here.
pub const VERSION: &str = "/v1/version";
/// `GET`: who the token is.
pub const WHOAMI: &str = "/v1/whoami";
/// `POST`: change one's own password.
pub const OWN_PASSWORD: &str = "/v1/whoami/password";
/// `GET`, `POST`: tokens of one's own.
pub const OWN_TOKENS: &str = "/v1/whoami/tokens";
/// `DELETE`: one of them.
pub const OWN_TOKEN: &str = "/v1/whoami/tokens/{id}";
/// `POST`, open to all: a name and a password begin a session.
pub const LOGIN: &str = "/v1/login";
/// `POST`: end the session.
pub const LOGOUT: &str = "/v1/logout";
/// `GET`, `POST`: members of the org, who may log in.
pub const MEMBERS: &str = "/v1/members";
/// `POST`, `DELETE`: one of them.
pub const MEMBER: &str = "/v1/members/{name}";
/// `POST`, `DELETE`: whom it may log in as by way of a provider.
pub const MEMBER_IDENTITY: &str = "/v1/members/{name}/identity";

/// Every path, for tests that compare the server, the contract and the documentation.
pub const ALL: &[&str] = &[
    APPLY,
    APPS,
    APP,
    APP_DELETE,
    ENVS,
    ENV,
    ENV_DELETE,
    SCALE,
    RESTART,
    ROLLBACK,
    DEPLOY,
    RELEASES,
    DEPLOYS,
    DEPLOY_ONE,
    INSTANCES,
    EXPLAIN,
    ROUTES,
    LOGS,
    NODES,
    NODE_DRAIN,
    NODE_ACTIVATE,
    NODE_DISABLE,
    NODE_REMOVE,
    TOKENS,
    TOKEN,
    JOIN_TOKENS,
    ENROL,
    AGENT_STREAM,
    EDGE_STREAM,
    LEASE,
    REPORT,
    ASK,
    EVENTS,
    AUDIT,
    AUDIT_VERIFY,
    REQUEST,
    REQUEST_VOID,
    VIEWS,
    VIEW_REBUILD,
    CLUSTER,
    CLUSTER_JOIN_TOKENS,
    CLUSTER_PROMOTE,
    CLUSTER_HANDOVER,
    CLUSTER_FENCE,
    CLUSTER_REMOVE,
    CLUSTER_ADOPT,
    CLUSTER_SNAPSHOT,
    CLUSTER_BACKUP,
    HEALTH_LIVE,
    HEALTH_READY,
    METRICS,
    OPENAPI,
    VERSION,
    WHOAMI,
    OWN_PASSWORD,
    OWN_TOKENS,
    OWN_TOKEN,
    LOGIN,
    LOGOUT,
    MEMBERS,
    MEMBER,
    MEMBER_IDENTITY,
];

/// Fills the places of a path in order. Anything but letters, digits and `-._~` is percent-encoded,
/// so that a value can never become another path.
///
/// # Panics
/// If the path has not exactly as many places as there are values: the caller is wrong, always.
pub fn fill(path: &str, values: &[&str]) -> String {
    let mut filled = String::with_capacity(path.len() + 32);
    let mut values = values.iter();
    for part in path.split('/').skip(1) {
        filled.push('/');
        if part.starts_with('{') {
            encode(values.next().expect("as many values as places"), &mut filled);
        } else {
            filled.push_str(part);
        }
    }
    assert!(values.next().is_none(), "as many places as values in {path}");
    filled
}

fn encode(value: &str, to: &mut String) {
    use std::fmt::Write;
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            to.push(char::from(byte));
        } else {
            write!(to, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_never_becomes_another_path() {
        assert_eq!(fill(ENV, &["main", "shop", "prod"]), "/v1/orgs/main/apps/shop/envs/prod");
        assert_eq!(fill(NODE_DRAIN, &["../../x?y"]), "/v1/nodes/..%2F..%2Fx%3Fy/drain");
        assert_eq!(fill(LEASE, &[]), LEASE);
    }

    #[test]
    fn no_path_is_listed_twice() {
        let distinct: std::collections::BTreeSet<_> = ALL.iter().collect();
        assert_eq!(distinct.len(), ALL.len());
    }
}
