//! The stored form: every variant survives it, and what an earlier release wrote is still read.

use crate::world::{image, manifest, name};
use holdfast_domain::{
    Actor, BackupNote, BackupStep, Confirmation, Confirmed, DeployFailure, DeployKind, Done, Envelope, Event,
    NodeHealth, Role, Verdict, codec,
    config::{Based, ConfigEvent as Config, Put, Reviewers, Settings, Stage, Value, Who},
    state::{Holder, Identity, Taken},
};
use std::{collections::BTreeSet, net::Ipv6Addr, path::PathBuf};
use types::{
    AppId, ByteSize, ChangeId, ConfigKey, DeployId, EnvId, Epoch, EventId, Generation, InstanceId, MilliCpu,
    NamespaceId, NodeId, OrgId, PersonId, ReleaseId, RequestId, RouteId, Timestamp, TokenId, ValueKind,
    manifest::ProxyProtocol,
    plan::{Capacity, Change, NodeRole, Reason, RouteMatch},
};

fn changes() -> Vec<Change> {
    let (reason, detail) = (Reason::OomKilled, "killed at 64Mi".to_owned());
    vec![
        Change::Preparing,
        Change::Waiting { reason: Reason::ImageUnavailable, detail: "registry does not answer".into() },
        Change::Booting,
        Change::Ready,
        Change::Unready { detail: "no answer".into() },
        Change::Crashed { reason, detail: detail.clone(), restarts: 2 },
        Change::Failed { reason: Reason::CommandInvalid, detail },
        Change::Stopped,
        Change::Collected,
    ]
}

fn verdicts() -> Vec<Verdict> {
    let done = Done { summary: "done".into(), app: Some(AppId::from_u128(3)), ..Done::default() };
    let refused = Verdict::Refused { code: "conflict".into(), text: "taken".into() };
    vec![Verdict::Executed(done), refused, Verdict::Voided]
}

/// The roles of people that came to format 1 after owners and viewers.
const LATER_ROLES: [Role; 4] = [Role::Admin, Role::Operator, Role::Developer, Role::Auditor];

/// A token of every role.
fn tokens() -> Vec<Event> {
    let (token, at) = (TokenId::from_u128(10), Timestamp::from_ms(1_800_000_000_000));
    let made = |role| {
        let joins = matches!(role, Role::Join | Role::MemberJoin);
        let (org, expires) = ((role == Role::Owner).then_some(OrgId::from_u128(2)), joins.then_some(at));
        let node = (role == Role::Node).then_some(NodeId::from_u128(9));
        Event::TokenCreated { token, org, name: name("t"), role, node, hash: [7; 32], expires }
    };
    let all = [Role::Owner, Role::Viewer, Role::Join, Role::Node, Role::MemberJoin];
    all.into_iter().chain(LATER_ROLES).map(made).collect()
}

/// What came to format 1 with the members of a cluster.
fn of_members() -> Vec<Event> {
    let (node, join) = (NodeId::from_u128(12), TokenId::from_u128(13));
    let admitted = |api: &str, votes, join| Event::MemberAdmitted {
        node,
        name: name("m1"),
        peer: "[fd00::1]:7071".into(),
        api: api.into(),
        votes,
        join,
    };
    let confirmed = |kind| Confirmed {
        actor: Actor::Token(TokenId::from_u128(10)),
        kind,
        acknowledged: vec!["acked_is_durable".into()],
        reason: "größer".into(),
        at: Timestamp::from_ms(1_800_000_000_000),
    };
    let act = |kind| Event::ActConfirmed {
        act: "cluster handover".into(),
        target: "m1".into(),
        confirmed: confirmed(kind),
    };
    let mut events = vec![
        admitted("https://one.example:7070", true, None),
        admitted("", false, Some(join)),
        Event::MemberRemoved { node, confirmed: confirmed(Confirmation::Person) },
    ];
    events.extend([Confirmation::Person, Confirmation::Script, Confirmation::Offline].map(act));
    events
}

/// What came to format 1 with the backups that a server makes by itself.
fn of_backups() -> Vec<Event> {
    let (id, event) =
        ("0000000000000042-0000000000000041-000001800000000-0000abcd".to_owned(), EventId::new(41));
    let mut notes = vec![
        BackupNote::Made { id: id.clone(), place: "s3://bucket/log".into(), event },
        BackupNote::Drilled { id, event, fingerprint: "ab".repeat(32) },
    ];
    for step in BackupStep::ALL {
        notes.push(BackupNote::Failed { step, why: "größer".into() });
        notes.push(BackupNote::Recovered { step });
    }
    notes.into_iter().map(|note| Event::BackupNoted { note }).collect()
}

fn adoption() -> Event {
    let taken = ["0f0e", "a1a2"].map(|cluster| Taken {
        cluster: cluster.into(),
        generation: Generation::new(4711),
        epoch: Epoch::new(9),
    });
    let confirmed = Confirmed {
        actor: Actor::Token(TokenId::from_u128(10)),
        kind: Confirmation::Person,
        acknowledged: Vec::new(),
        reason: "restored".into(),
        at: Timestamp::from_ms(1_800_000_000_000),
    };
    let absent = vec![InstanceId::from_u128(7)];
    Event::ClusterAdopted { cluster: "b1b2".into(), taken: taken.to_vec(), absent, confirmed }
}

/// What came to format 1 with people who log in.
fn of_people() -> Vec<Event> {
    let (person, org) = (PersonId::from_u128(14), OrgId::from_u128(2));
    let hash = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2E$aGFzaA".to_owned();
    let scopes = ["confirm:cluster.promote".parse().expect("a scope")];
    let issued = |holder| Event::TokenIssued {
        token: TokenId::from_u128(10),
        org,
        name: name("laptop"),
        role: Role::Operator,
        holder,
        hash: [7; 32],
        expires: Some(Timestamp::from_ms(1_800_000_000_000)),
    };
    let confirmed = Confirmed {
        actor: Actor::Person(person),
        kind: Confirmation::Service,
        acknowledged: Vec::new(),
        reason: "planned".into(),
        at: Timestamp::from_ms(1_800_000_000_000),
    };
    vec![
        Event::PersonAdded { person, org, name: name("ann"), role: Role::Owner, hash: hash.clone() },
        Event::PersonRoleChanged { person, role: Role::Auditor },
        Event::PersonPasswordChanged { person, hash },
        Event::PersonRemoved { person },
        issued(Holder::Person(person)),
        issued(Holder::Service(scopes.into())),
        Event::ActConfirmed { act: "cluster handover".into(), target: "m1".into(), confirmed },
    ]
}

/// What came to format 1 with deletions, and with nodes that are taken out.
fn of_deletions() -> Vec<Event> {
    let (org, app, env, node) =
        (OrgId::from_u128(2), AppId::from_u128(3), EnvId::from_u128(4), NodeId::from_u128(9));
    let confirmed = Confirmed {
        actor: Actor::Token(TokenId::from_u128(10)),
        kind: Confirmation::Script,
        acknowledged: vec!["partial_view_removes_nothing".into()],
        reason: "größer".into(),
        at: Timestamp::from_ms(1_800_000_000_000),
    };
    vec![
        Event::DeployFailed { deploy: DeployId::from_u128(6), failure: DeployFailure::Deleted },
        Event::EnvironmentDeleted { env, org, confirmed: None },
        Event::EnvironmentDeleted { env, org, confirmed: Some(confirmed.clone()) },
        Event::AppDeleted { app, org, confirmed: Some(confirmed.clone()) },
        Event::NodeDisabled { node, confirmed: confirmed.clone() },
        Event::NodeRemoved { node, confirmed },
    ]
}

/// What came to format 1 with configuration: every variant, and every variant inside them.
fn of_config() -> Vec<Event> {
    let stages =
        [Stage::Draft, Stage::InReview, Stage::Approved, Stage::Rejected, Stage::Published, Stage::Withdrawn];
    let submitted = stages.into_iter().map(|stage| {
        let by = Who::Person(PersonId::from_u128(12));
        Config::Submitted { change: CHANGE, namespace: NAMESPACE, by, revision: 1, hash: [4; 32], stage }
    });
    let events = of_namespaces().into_iter().chain(of_changes()).chain(submitted);
    events.map(Event::Config).collect()
}

const NAMESPACE: NamespaceId = NamespaceId::from_u128(20);
const CHANGE: ChangeId = ChangeId::from_u128(21);

fn text(text: &str) -> std::sync::Arc<str> {
    text.into()
}

fn key(text: &str) -> ConfigKey {
    text.parse().expect("a key")
}

fn forced() -> Confirmed {
    Confirmed {
        actor: Actor::Person(PersonId::from_u128(12)),
        kind: Confirmation::Person,
        acknowledged: vec!["four_eyes".into()],
        reason: "fire".into(),
        at: Timestamp::from_ms(1_800_000_000_000),
    }
}

/// One of each kind of value, and what is no value.
fn edits() -> Vec<Based> {
    let set = |kind, bytes: &[u8]| {
        Put::Set(Value::new(kind, bytes, "größer", &[name("b"), name("a")]).expect("a value").into())
    };
    let samples: [&[u8]; 7] = [b"text", b"1.5", b"true", b"{}", b"two\nlines", &[0, 255], b"db/password"];
    let values = ValueKind::ALL.into_iter().zip(samples).map(|(kind, bytes)| set(kind, bytes));
    let puts = values.chain([Put::Delete, Put::Inherit]).zip(0..);
    puts.map(|(put, nth)| Based { key: key(&format!("k/{nth}")), base: nth, put }).collect()
}

fn of_namespaces() -> Vec<Config> {
    let (namespace, org, person) = (NAMESPACE, OrgId::from_u128(2), PersonId::from_u128(12));
    let roles = [Role::Owner, Role::Developer].into();
    let settings = Settings {
        direct: Some(false),
        approvals: Some(2),
        four_eyes: Some(true),
        reviewers: Some(Reviewers { roles, people: [person].into() }),
        entries: Some(100),
        bytes: Some(ByteSize::from_mib(1)),
    };
    vec![
        Config::NamespaceCreated {
            namespace,
            org,
            path: "shop/prod".parse().expect("a path"),
            parent: Some(NamespaceId::from_u128(19)),
            description: "prices".into(),
            settings: Settings::default().into(),
        },
        Config::NamespaceSet { namespace, parent: None, description: text(""), settings: settings.into() },
        Config::SchemaSet { namespace, schema: Some(text("{}")), confirmed: Some(forced()) },
        Config::SchemaSet { namespace, schema: None, confirmed: None },
        Config::NamespaceDeleted { namespace, confirmed: Some(forced()) },
        Config::Written {
            namespace,
            by: Who::Token(TokenId::from_u128(10)),
            release: 1,
            edits: edits(),
            note: text("n"),
        },
    ]
}

fn of_changes() -> Vec<Config> {
    let (change, namespace, by) = (CHANGE, NAMESPACE, Who::Person(PersonId::from_u128(12)));
    let at = Timestamp::from_ms(1_800_000_000_000);
    vec![
        Config::Drafted { change, namespace, by: Who::Platform, title: text("t"), edits: edits() },
        Config::Edited {
            change,
            namespace,
            by,
            title: Some(text("u")),
            edits: edits()[..1].to_vec(),
            dropped: vec![key("b")],
            rebased: vec![(key("c"), 7)],
        },
        Config::Commented { change, namespace, by, text: text("why?") },
        Config::Approved { change, namespace, by, revision: 1, hash: [4; 32], stage: Stage::Approved },
        Config::Rejected { change, namespace, by, revision: 1, reason: text("no") },
        Config::Reopened { change, namespace, release: 2, keys: vec![key("a")] },
        Config::Withdrawn { change, namespace, by, reason: text("") },
        Config::Scheduled { change, namespace, by, at: Some(at) },
        Config::Scheduled { change, namespace, by, at: None },
        Config::Suspended { change, namespace, why: text("it moved") },
        Config::Published { change, namespace, by, release: 2, break_glass: None },
        Config::Published { change, namespace, by, release: 3, break_glass: Some(forced()) },
    ]
}

/// What came to format 1 with logins by way of a provider.
fn of_identities() -> Vec<Event> {
    let person = PersonId::from_u128(14);
    let identity = Identity { issuer: "https://login.example".into(), subject: "248289761001".into() };
    vec![Event::PersonLinked { person, identity }, Event::PersonUnlinked { person }]
}

/// Those of the platform that have one shape.
fn of_platform() -> Vec<Event> {
    let (org, app, env) = (OrgId::from_u128(2), AppId::from_u128(3), EnvId::from_u128(4));
    let (release, deploy) = (ReleaseId::from_u128(5), DeployId::from_u128(6));
    let (instance, route, node) = (InstanceId::from_u128(7), RouteId::from_u128(8), NodeId::from_u128(9));
    let token = TokenId::from_u128(10);
    let at = Timestamp::from_ms(1_800_000_000_000);
    let declared = manifest("shop", "1.4", &[("web", 2, 64), ("worker", 1, 32)], Some("shop.example"));
    let capacity = Capacity { memory: ByteSize::from_mib(512), cpu: MilliCpu::new(1500) };
    let address: Ipv6Addr = "fd00::7".parse().expect("an address");
    let roles = BTreeSet::from([NodeRole::Agent, NodeRole::Edge]);
    let (process, port) = (name("web"), name("http"));
    vec![
        Event::ClusterCreated { cluster: "c1".into() },
        Event::OrgCreated { org, name: name("acme") },
        Event::AppCreated { app, org, name: name("shop") },
        Event::EnvironmentCreated { env, app, name: name("prod") },
        Event::ReleaseCreated {
            release,
            env,
            number: 1,
            manifest: Box::new(declared),
            image: image("registry.test/shop:1.4"),
            content: [9; 32],
        },
        Event::ReleaseAvailable { release },
        Event::ReleasePromoted { release },
        Event::ReleaseSuperseded { release },
        Event::ReleaseRolledBack { release },
        Event::DeployRolling { deploy },
        Event::DeployCutOver { deploy },
        Event::DeploySucceeded { deploy },
        Event::ScaleSet { env, process: process.clone(), replicas: 3 },
        Event::InstanceAllocated { instance, env, process: process.clone(), release, deploy, node, address },
        Event::InstanceDraining { instance },
        Event::InstanceReleased { instance, forced: true },
        Event::InstanceLost { instance },
        Event::RouteValidated { route },
        Event::RouteActivated { route },
        Event::RouteRemoved { route },
        Event::RouteUpdating {
            route,
            process: process.clone(),
            port: port.clone(),
            proxy_protocol: ProxyProtocol::V2,
        },
        Event::NodeEnrolled { node, name: name("n1"), roles, capacity, prefix: address, join: token },
        Event::NodeActivated { node },
        Event::NodeDraining { node },
        Event::TokenRevoked { token },
        Event::HorizonMoved { to: at },
    ]
}

/// At least one of every variant, and of every variant inside them.
fn every_event() -> Vec<Event> {
    let (env, release, deploy) = (EnvId::from_u128(4), ReleaseId::from_u128(5), DeployId::from_u128(6));
    let (instance, route, node) = (InstanceId::from_u128(7), RouteId::from_u128(8), NodeId::from_u128(9));
    let (token, request) = (TokenId::from_u128(10), RequestId::from_u128(11));
    let at = Timestamp::from_ms(1_800_000_000_000);
    let host = RouteMatch::Tls { host: "shop.example".parse().expect("a host") };
    let (process, port) = (name("web"), name("http"));
    let mut events = of_platform();
    events.extend(of_members().into_iter().chain(of_backups()).chain(of_deletions()).chain(of_people()));
    events.push(adoption());
    events.extend(of_config());
    let failures = [
        DeployFailure::Attempts { reason: Reason::Exited, detail: "code 1".into() },
        DeployFailure::Deadline { waiting: "web: 1 of 2".into() },
        DeployFailure::Superseded { by: deploy },
    ];
    events.extend(failures.map(|failure| Event::DeployFailed { deploy, failure }));
    events.extend(
        [DeployKind::Apply, DeployKind::Rollback, DeployKind::Restart].map(|kind| Event::DeployStarted {
            deploy,
            env,
            release,
            kind,
            deadline: at,
            attempts: 3,
        }),
    );
    events.extend([host, RouteMatch::Tcp { listen: 5432 }].map(|matches| {
        let (process, port, proxy_protocol) = (process.clone(), port.clone(), ProxyProtocol::Off);
        Event::RouteRequested { route, env, matches, process, port, proxy_protocol }
    }));
    events.extend(
        [NodeHealth::Reachable, NodeHealth::Offline].map(|health| Event::NodeHealthChanged { node, health }),
    );
    events.extend(tokens());
    let changed =
        |(nth, change)| Event::InstanceChanged { instance, report: nth as u64 + 1, seen: at, change };
    events.extend(changes().into_iter().enumerate().map(changed));
    let decided =
        |verdict| Event::RequestDecided { request, principal: Actor::Token(token), body: [1; 32], verdict };
    events.extend(verdicts().into_iter().map(decided).chain(of_identities()));
    events
}

fn envelopes() -> Vec<Envelope> {
    let actors = [Actor::System, Actor::Token(TokenId::from_u128(10)), Actor::Node(NodeId::from_u128(9))];
    every_event()
        .into_iter()
        .zip(1..)
        .map(|(event, nth)| Envelope {
            id: EventId::new(nth),
            epoch: Epoch::new(3),
            at: Timestamp::from_ms(1_800_000_000_000 + nth),
            actor: actors[nth as usize % 3],
            request: (nth % 2 == 0).then(|| RequestId::from_u128(u128::from(nth))),
            cause: (nth % 3 == 0).then(|| EventId::new(nth - 1)),
            sequence: nth,
            event,
        })
        .collect()
}

/// The place of every variant. A new one does not compile until it has a line here, and then the
/// tests below fail until it is among [`every_event`].
const fn place(event: &Event) -> usize {
    match event {
        Event::ClusterCreated { .. } => 0,
        Event::OrgCreated { .. } => 1,
        Event::AppCreated { .. } => 2,
        Event::EnvironmentCreated { .. } => 3,
        Event::ReleaseCreated { .. } => 4,
        Event::ReleaseAvailable { .. } => 5,
        Event::ReleasePromoted { .. } => 6,
        Event::ReleaseSuperseded { .. } => 7,
        Event::ReleaseRolledBack { .. } => 8,
        Event::DeployStarted { .. } => 9,
        Event::DeployRolling { .. } => 10,
        Event::DeployCutOver { .. } => 11,
        Event::DeploySucceeded { .. } => 12,
        Event::DeployFailed { .. } => 13,
        Event::ScaleSet { .. } => 14,
        Event::InstanceAllocated { .. } => 15,
        Event::InstanceChanged { .. } => 16,
        Event::InstanceDraining { .. } => 17,
        Event::InstanceReleased { .. } => 18,
        Event::InstanceLost { .. } => 19,
        Event::RouteRequested { .. } => 20,
        Event::RouteValidated { .. } => 21,
        Event::RouteActivated { .. } => 22,
        Event::RouteUpdating { .. } => 23,
        Event::RouteRemoved { .. } => 24,
        Event::NodeEnrolled { .. } => 25,
        Event::NodeActivated { .. } => 26,
        Event::NodeDraining { .. } => 27,
        Event::NodeHealthChanged { .. } => 28,
        Event::TokenCreated { .. } => 29,
        Event::TokenRevoked { .. } => 30,
        Event::RequestDecided { .. } => 31,
        Event::HorizonMoved { .. } => 32,
        Event::MemberAdmitted { .. } => 33,
        Event::MemberRemoved { .. } => 34,
        Event::ActConfirmed { .. } => 35,
        Event::BackupNoted { .. } => 36,
        Event::ClusterAdopted { .. } => 37,
        Event::PersonAdded { .. } => 38,
        Event::PersonRoleChanged { .. } => 39,
        Event::PersonPasswordChanged { .. } => 40,
        Event::PersonRemoved { .. } => 41,
        Event::TokenIssued { .. } => 42,
        Event::EnvironmentDeleted { .. } => 43,
        Event::AppDeleted { .. } => 44,
        Event::NodeDisabled { .. } => 45,
        Event::NodeRemoved { .. } => 46,
        Event::Config(_) => 47,
        Event::PersonLinked { .. } => 48,
        Event::PersonUnlinked { .. } => 49,
    }
}

const VARIANTS: usize = 50;
/// How many of them there were when format 1 began.
const BEGAN_WITH: usize = 33;

#[test]
fn every_variant_survives_its_stored_form() {
    let seen: BTreeSet<usize> = every_event().iter().map(place).collect();
    assert_eq!(seen, (0..VARIANTS).collect(), "every variant is tried");
    for envelope in envelopes() {
        let bytes = codec::encode(&envelope);
        assert_eq!(codec::decode(envelope.id, envelope.epoch, &bytes).expect("written by us"), envelope);
        let json = serde_json::to_string(&envelope).expect("json");
        assert_eq!(serde_json::from_str::<Envelope>(&json).expect("json"), envelope);
    }
}

#[test]
fn kinds_tell_variants_apart() {
    let kinds: BTreeSet<&str> = every_event().iter().map(Event::kind).collect();
    // Changes of instances, what is noted of backups and what happens to configuration have a kind each.
    assert_eq!(kinds.len(), VARIANTS - 3 + changes().len() + 4 + 17);
}

#[test]
fn a_newer_format_and_broken_bytes_are_told_apart() {
    let envelope = envelopes().remove(0);
    let mut bytes = codec::encode(&envelope);
    bytes[0] = 2;
    let newer = codec::decode(envelope.id, envelope.epoch, &bytes).expect_err("a newer format");
    assert_eq!(newer.to_string(), "event 1 has format version 2; this Holdfast reads up to 1");
    bytes[0] = 1;
    for cut in 1..bytes.len() {
        let broken = codec::decode(envelope.id, envelope.epoch, &bytes[..cut]).expect_err("cut short");
        assert_eq!(broken.to_string(), "event 1 cannot be decoded");
    }
}

fn compat(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/compat").join(file)
}

/// The files were written once and are never written again: each event as its length in four bytes,
/// big end first, and its stored form; the twin is JSON. `BEGIN_COMPAT=1` writes them only where there
/// are none. Says which variants are in the file.
fn is_still_read(file: &str, began: &[Envelope]) -> BTreeSet<usize> {
    let (stored, twin) = (compat(&format!("{file}.bin")), compat(&format!("{file}.json")));
    if std::env::var_os("BEGIN_COMPAT").is_some() && !stored.exists() {
        let mut bytes = Vec::new();
        for encoded in began.iter().map(codec::encode) {
            bytes.extend((encoded.len() as u32).to_be_bytes());
            bytes.extend(encoded);
        }
        std::fs::write(&stored, bytes).expect("tests/compat can be written");
        let lines: Vec<String> = began.iter().map(|e| serde_json::to_string(e).expect("json")).collect();
        std::fs::write(&twin, format!("[\n{}\n]\n", lines.join(",\n"))).expect("tests/compat can be written");
    }
    let twin = std::fs::read_to_string(&twin).unwrap_or_else(|error| panic!("{file}.json: {error}"));
    let twin: Vec<Envelope> = serde_json::from_str(&twin).expect("the twin is readable");
    let stored = std::fs::read(&stored).unwrap_or_else(|error| panic!("{file}.bin: {error}"));
    let mut rest = &stored[..];
    let mut count = 0;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (bytes, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        let expected = &twin[count];
        let read = codec::decode(expected.id, expected.epoch, bytes).expect("format 1 is read for ever");
        assert_eq!(read, *expected);
        assert_eq!(codec::encode(&read), bytes, "format 1 is still what is written");
        count += 1;
        rest = after;
    }
    assert_eq!(count, twin.len());
    twin.iter().map(|envelope| place(&envelope.event)).collect()
}

/// Written by the release that began format 1.
#[test]
fn what_format_1_wrote_is_still_read() {
    let seen = is_still_read("events-v1", &[]);
    assert_eq!(seen, (0..BEGAN_WITH).collect(), "the file has every variant that format 1 began with");
}

/// Written when members came to format 1, with the role of their join tokens.
#[test]
fn what_format_1_wrote_of_members_is_still_read() {
    let is_theirs = |event: &Event| {
        let of_people = of_people().contains(event);
        (BEGAN_WITH..36).contains(&place(event)) && !of_people
            || matches!(event, Event::TokenCreated { role: Role::MemberJoin, .. })
    };
    let began: Vec<Envelope> =
        envelopes().into_iter().filter(|envelope| is_theirs(&envelope.event)).collect();
    let seen = is_still_read("events-v1-members", &began);
    assert_eq!(seen, (BEGAN_WITH..36).chain([29]).collect(), "every variant that came then");
}

/// Written when what the server notes of its backups came to format 1.
#[test]
fn what_format_1_wrote_of_backups_is_still_read() {
    let is_theirs = |envelope: &Envelope| matches!(envelope.event, Event::BackupNoted { .. });
    let began: Vec<Envelope> = envelopes().into_iter().filter(is_theirs).collect();
    let seen = is_still_read("events-v1-backups", &began);
    assert_eq!(seen, [36].into_iter().collect(), "every variant that came then");
}

/// Written when adoption came to format 1.
#[test]
fn what_format_1_wrote_of_adoption_is_still_read() {
    let is_one = |envelope: &Envelope| matches!(envelope.event, Event::ClusterAdopted { .. });
    let began: Vec<Envelope> = envelopes().into_iter().filter(is_one).collect();
    assert_eq!(is_still_read("events-v1-adoption", &began), [37].into());
}

/// Written when more roles of people came to format 1.
#[test]
fn what_format_1_wrote_of_roles_is_still_read() {
    let is_one = |envelope: &Envelope| match &envelope.event {
        Event::TokenCreated { role, .. } => LATER_ROLES.contains(role),
        _ => false,
    };
    let began: Vec<Envelope> = envelopes().into_iter().filter(is_one).collect();
    assert_eq!(is_still_read("events-v1-roles", &began), [29].into());
}

/// Written when people who log in came to format 1.
#[test]
fn what_format_1_wrote_of_people_is_still_read() {
    let theirs = of_people();
    let began: Vec<Envelope> =
        envelopes().into_iter().filter(|envelope| theirs.contains(&envelope.event)).collect();
    let seen = is_still_read("events-v1-people", &began);
    assert_eq!(seen, [35, 38, 39, 40, 41, 42].into());
}

/// Written when deletions came to format 1.
#[test]
fn what_format_1_wrote_of_deletions_is_still_read() {
    let is_theirs = |envelope: &Envelope| of_deletions().contains(&envelope.event);
    let began: Vec<Envelope> = envelopes().into_iter().filter(is_theirs).collect();
    assert_eq!(is_still_read("events-v1-deletions", &began), [13, 43, 44, 45, 46].into());
}

/// Written when configuration came to format 1.
#[test]
fn what_format_1_wrote_of_configuration_is_still_read() {
    let is_one = |envelope: &Envelope| matches!(envelope.event, Event::Config(_));
    let began: Vec<Envelope> = envelopes().into_iter().filter(is_one).collect();
    assert_eq!(is_still_read("events-v1-config", &began), [47].into());
}

/// Written when logins by way of a provider came to format 1.
#[test]
fn what_format_1_wrote_of_identities_is_still_read() {
    let theirs = of_identities();
    let began: Vec<Envelope> =
        envelopes().into_iter().filter(|envelope| theirs.contains(&envelope.event)).collect();
    assert_eq!(is_still_read("events-v1-identities", &began), [48, 49].into());
}
