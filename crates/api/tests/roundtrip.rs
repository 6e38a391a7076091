//! Every type of the contract, filled with arbitrary values, reads back from its JSON as itself.

use holdfast_api::*;
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, fmt::Debug, net::Ipv6Addr};
use types::{
    AppId, ByteSize, DeployId, Digest, DurationMs, EnvId, Epoch, EventId, Generation, Index, InstanceId,
    MilliCpu, Name, NodeId, PersonId, ReleaseId, RequestId, RouteId, Term, Timestamp, TokenId,
    history::Held,
    manifest::{Manifest, RouteMode},
    plan::{Capacity, Change, NodeRole, PinnedImage, Reason, Transition},
};

fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) -> T {
    let json = serde_json::to_string(&value).expect("every value can be written");
    let back: T = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error} in {json}"));
    assert_eq!(back, value, "{json}");
    value
}

/// What an arbitrary value of any type is made from.
#[derive(Clone, Debug)]
struct Seed {
    n: u64,
    bits: u128,
    text: String,
    name: Name,
    some: bool,
}

impl Seed {
    fn maybe<T>(&self, value: T) -> Option<T> {
        self.some.then_some(value)
    }
    fn image(&self) -> PinnedImage {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.bits.to_be_bytes());
        PinnedImage { reference: self.text.clone(), digest: Digest::from_sha256(bytes) }
    }
    fn capacity(&self) -> Capacity {
        Capacity { memory: ByteSize::from_bytes(self.n), cpu: MilliCpu::new((self.n % 1_000_000) as u32) }
    }
    fn held(&self) -> Held {
        let (epoch, event) = (Epoch::new(self.n), EventId::new(self.n));
        Held { cluster: self.text.clone(), epoch, event, generation: Generation::new(self.n) }
    }
    fn small(&self) -> u32 {
        self.n as u32
    }
    fn address(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.bits)
    }
    fn release(&self) -> ReleaseRow {
        ReleaseRow {
            id: ReleaseId::from_u128(self.bits),
            number: self.n,
            image: self.image(),
            created: Timestamp::from_ms(self.n),
            state: self.text.clone(),
            current: self.some,
        }
    }
    fn deploy(&self) -> DeployRow {
        let states = [
            DeployState::Started,
            DeployState::Rolling,
            DeployState::Cutover,
            DeployState::Succeeded,
            DeployState::Failed,
        ];
        DeployRow {
            id: DeployId::from_u128(self.bits),
            kind: self.text.clone(),
            release: self.n,
            state: states[(self.n % 5) as usize],
            started: Timestamp::from_ms(self.n),
            deadline: Timestamp::from_ms(self.n),
            ended: self.maybe(Timestamp::from_ms(self.n)),
            failures: self.small(),
            attempts: self.small(),
            reason: self.maybe(self.text.clone()),
            way_back: self.maybe(self.text.clone()),
            steps: vec![self.text.clone()],
        }
    }
    fn route(&self) -> RouteRow {
        RouteRow {
            id: RouteId::from_u128(self.bits),
            app: self.name.clone(),
            env: self.name.clone(),
            process: self.name.clone(),
            port: self.name.clone(),
            mode: if self.some { RouteMode::Tls } else { RouteMode::Tcp },
            host: self.maybe("shop.example".parse().expect("valid")),
            listen: self.maybe(self.n as u16),
            state: self.text.clone(),
            backends: vec![BackendRow {
                instance: InstanceId::from_u128(self.bits),
                address: (self.address(), self.n as u16).into(),
            }],
        }
    }
}

fn seeds() -> impl Strategy<Value = Seed> {
    (any::<u64>(), any::<u128>(), any::<String>(), "[a-z][a-z0-9]{0,20}", any::<bool>()).prop_map(
        |(n, bits, text, name, some)| Seed { n, bits, text, name: name.parse().expect("a label"), some },
    )
}

fn manifest(seed: &Seed) -> Manifest {
    serde_json::from_value(serde_json::json!({
        "schema": 1, "app": seed.name, "image": { "ref": seed.text },
        "processes": { "web": { "memory": "64Mi", "ports": [{ "name": "http", "port": 80 }],
            "health": { "type": "http", "port": "http", "path": "/" } } },
        "routes": [{ "host": "shop.example", "process": "web", "port": "http" }],
    }))
    .expect("a manifest")
}

proptest! {
    #[test]
    fn what_apply_says_reads_back(seed in seeds()) {
        same(ApplyRequest { env: seed.name.clone(), manifest: manifest(&seed) });
        same(PlanAnswer {
            changes: vec![Difference {
                path: seed.text.clone(), before: seed.maybe(seed.text.clone()), after: None,
            }],
            image: seed.image(), release_exists: seed.some, rolling: seed.maybe(DeployId::from_u128(seed.bits)), warnings: vec![seed.text.clone()],
        });
        same(ScaleRequest { process: seed.name.clone(), replicas: seed.small() });
        same(RestartRequest { process: seed.maybe(seed.name.clone()) });
        same(RollbackRequest { release: seed.maybe(seed.text.clone()) });
        same(DeployRequest { image: seed.text.clone() });
        same(Receipt {
            request_id: RequestId::from_u128(seed.bits), outcome: Outcome::Executed, event: EventId::new(seed.n),
            events: vec![EventSummary { id: EventId::new(seed.n), kind: seed.text.clone(), subject: seed.text.clone() }],
            result: ResultBody {
                app: seed.maybe(AppId::from_u128(seed.bits)), env: seed.maybe(EnvId::from_u128(seed.bits)),
                release: seed.maybe(ReleaseId::from_u128(seed.bits)), release_number: seed.maybe(seed.n),
                image: seed.maybe(seed.image()), deploy: seed.maybe(DeployId::from_u128(seed.bits)),
                node: seed.maybe(NodeId::from_u128(seed.bits)), token: seed.maybe(TokenId::from_u128(seed.bits)),
                secret: seed.maybe(seed.text.clone()), unchanged: seed.maybe(seed.text.clone()),
            },
        });
        same(ResultBody::default());
    }

    #[test]
    fn rows_read_back(seed in seeds()) {
        let row = AppRow {
            id: AppId::from_u128(seed.bits), org: seed.name.clone(), name: seed.name.clone(),
            created: Timestamp::from_ms(seed.n), envs: vec![seed.name.clone()],
        };
        same(Page { rows: vec![row.clone(), row], next: seed.maybe(seed.text.clone()) });
        same(EnvRow {
            id: EnvId::from_u128(seed.bits), app: seed.name.clone(), name: seed.name.clone(),
            release: seed.maybe(seed.n), deploy: seed.maybe(DeployState::Rolling),
            desired: seed.small(), ready: seed.small(),
        });
        same(EnvStatus {
            id: EnvId::from_u128(seed.bits), org: seed.name.clone(), app: seed.name.clone(), env: seed.name.clone(),
            release: seed.maybe(seed.release()), deploy: seed.maybe(seed.deploy()),
            processes: vec![ProcessStatus {
                process: seed.name.clone(), desired: seed.small(), placed: 1, ready: 2, current: 3, starting: 4,
                draining: 5, failing: 6, routed: 7, why: seed.maybe(seed.text.clone()),
            }],
            routes: vec![seed.route()], converged: seed.some, why: vec![seed.text.clone()], event: EventId::new(seed.n),
        });
        same(InstanceRow {
            id: InstanceId::from_u128(seed.bits), app: seed.name.clone(), env: seed.name.clone(),
            process: seed.name.clone(), release: seed.n, node: seed.name.clone(), state: seed.text.clone(),
            reason: seed.maybe(Reason::OomKilled), detail: seed.maybe(seed.text.clone()), restarts: seed.small(),
            address: seed.address(), since: Timestamp::from_ms(seed.n),
        });
        same(NodeRow {
            id: NodeId::from_u128(seed.bits), name: seed.name.clone(), state: seed.text.clone(),
            roles: vec![NodeRole::Agent, NodeRole::Edge], capacity: seed.capacity(), used: seed.capacity(),
            last_seen: seed.maybe(Timestamp::from_ms(seed.n)), generation: Generation::new(seed.n),
            acknowledged: seed.maybe(Generation::new(seed.n)), edge_acknowledged: None,
            pressure: seed.maybe(Reason::DiskFull), apart: seed.maybe(seed.text.clone()),
        });
        same(Explanation {
            summary: seed.text.clone(),
            lines: vec![ExplanationLine {
                subject: seed.text.clone(), desired: seed.text.clone(), actual: seed.text.clone(),
                why: seed.text.clone(), since_event: seed.maybe(EventId::new(seed.n)),
            }],
        });
        same(PlanQuery { plan: seed.some });
        same(LogsQuery { tail: seed.maybe(seed.small()), follow: seed.some });
        same(PageQuery { cursor: seed.maybe(seed.text.clone()), limit: seed.maybe(3), at_least: None });
    }

    #[test]
    fn events_and_operations_read_back(seed in seeds()) {
        let row = EventRow {
            id: EventId::new(seed.n), at: Timestamp::from_ms(seed.n), kind: seed.text.clone(), version: 1,
            subject: Subject { kind: seed.text.clone(), id: seed.text.clone(), sequence: seed.n },
            actor: seed.text.clone(), request_id: seed.maybe(RequestId::from_u128(seed.bits)),
            epoch: Epoch::new(seed.n), cause: seed.maybe(EventId::new(seed.n)),
            data: serde_json::json!({ "text": seed.text, "n": seed.n, "list": [null, true] }),
        };
        same(EventPage { events: vec![row], head: EventId::new(seed.n) });
        same(EventsQuery { after: EventId::new(seed.n), limit: seed.maybe(9), wait: seed.some });
        same(TokenRequest {
            name: seed.name.clone(), role: TokenRole::Viewer, org: seed.maybe(seed.name.clone()),
            expires_in: DurationMs::from_ms(seed.n), scopes: seed.maybe(vec![seed.text.clone()]),
        });
        same(TokenRow {
            id: TokenId::from_u128(seed.bits), name: seed.name.clone(), role: TokenRole::Owner, org: None,
            created: Timestamp::from_ms(seed.n), expires: seed.some.then_some(Timestamp::from_ms(seed.n)), revoked: seed.some,
            member: seed.maybe(seed.name.clone()), scopes: seed.maybe(vec![seed.text.clone()]),
        });
        same(RequestState {
            request_id: RequestId::from_u128(seed.bits), state: RequestVerdict::NotSeen, outcome: Outcome::Unknown, is_final: seed.some,
            event: seed.maybe(EventId::new(seed.n)), reason: seed.maybe(seed.text.clone()),
            code: seed.maybe(Code::NameTaken), at: seed.maybe(Timestamp::from_ms(seed.n)),
            attempts: Vec::new(),
            unread: Vec::new(),
        });
        same(ViewRow {
            name: seed.text.clone(), checkpoint: EventId::new(seed.n), fingerprint: seed.text.clone(),
            quarantined: seed.maybe(seed.text.clone()), behind: seed.n,
        });
        same(RebuildAnswer {
            outcome: Outcome::Executed, name: seed.text.clone(), before: seed.text.clone(), after: seed.text.clone(), equal: seed.some,
            events: seed.n,
        });
        same(Ready {
            ready: seed.some, role: seed.text.clone(), epoch: Epoch::new(seed.n), head: EventId::new(seed.n),
            applied: EventId::new(seed.n), reason: seed.maybe(seed.text.clone()),
        });
        same(Live { live: true });
        same(Version {
            version: seed.text.clone(), api: seed.text.clone(), cluster: seed.text.clone(), at: seed.maybe(Timestamp::from_ms(seed.n)),
        });
        same(Whoami {
            principal: seed.text.clone(), role: TokenRole::Owner, org: seed.maybe(seed.name.clone()),
            token: seed.maybe(TokenId::from_u128(seed.bits)), expires: seed.some.then_some(Timestamp::from_ms(seed.n)), cluster: seed.text.clone(),
            member: seed.maybe(seed.name.clone()),
        });
        people_read_back(&seed);
    }

    #[test]
    fn what_nodes_say_reads_back(seed in seeds()) {
        same(JoinTokenRequest { expires_in: DurationMs::from_ms(seed.n) });
        same(EnrolRequest {
            join_token: seed.text.clone(), name: seed.name.clone(), roles: vec![NodeRole::Edge],
            capacity: seed.capacity(),
        });
        same(Enrolled {
            node: NodeId::from_u128(seed.bits), credential: seed.text.clone(), cluster: seed.text.clone(),
            prefix: seed.address(),
        });
        same(NodeStreamQuery::of(seed.held(), seed.some));
        same(LogsAsk {
            ask: seed.n, instance: InstanceId::from_u128(seed.bits), tail_lines: seed.small(), follow: seed.some,
        });
        same(LeaseAnswer {
            generation: Generation::new(seed.n), server_time: Timestamp::from_ms(seed.n), cluster: seed.text.clone(),
        });
        let instance = InstanceId::from_u128(seed.bits);
        let change = Change::Crashed { reason: Reason::Exited, detail: seed.text.clone(), restarts: seed.small() };
        same(ReportRequest {
            transitions: vec![Transition { instance, sequence: seed.n, at: Timestamp::from_ms(seed.n), change }],
        });
        same(ReportAnswer { accepted: BTreeMap::from([(instance, seed.n)]) });
    }

    #[test]
    fn guarded_acts_read_back(seed in seeds()) {
        same(Explained {
            act: seed.text.clone(), will: vec![seed.text.clone()], touches: Vec::new(), irreversible: Vec::new(),
            invariants: vec![Proof { name: seed.text.clone(), proven_by: seed.text.clone() }],
            overrides: vec![Override { invariant: seed.text.clone(), type_this: seed.text.clone() }],
            facts: serde_json::json!({ "n": seed.n, "text": seed.text }), token: seed.text.clone(),
            expires_ms: seed.n,
        });
        for by in [ConfirmedBy::Person, ConfirmedBy::Script] {
            assert_eq!(same(by).as_str().parse(), Ok(by));
        }
        same(ClusterActRequest {
            node: seed.maybe(seed.text.clone()), reason: seed.text.clone(), acknowledge: vec![seed.text.clone()],
        });
        same(ActDone {
            outcome: Outcome::Executed, done: seed.text.clone(), epoch: seed.maybe(Epoch::new(seed.n)),
            event: seed.maybe(EventId::new(seed.n)), gap_ms: seed.maybe(seed.n),
        });
        same(MemberJoinRequest { expires_in: DurationMs::from_ms(seed.n) });
        same(MemberJoinSecret {
            outcome: Outcome::Executed, secret: seed.text.clone(), expires: Timestamp::from_ms(seed.n),
        });
        same(SnapshotDone { outcome: Outcome::Executed, event: EventId::new(seed.n) });
    }

    #[test]
    fn a_cluster_reads_back(seed in seeds()) {
        let node = NodeId::from_u128(seed.bits);
        let member = same(MemberRow {
            node, name: seed.name.clone(), peer: seed.text.clone(), api: seed.text.clone(),
            votes: seed.some, leads: seed.some, epoch: seed.maybe(Epoch::new(seed.n)),
            applied_event: seed.maybe(EventId::new(seed.n)), index: seed.maybe(Index::new(seed.n)),
            lag_events: seed.maybe(seed.n), heard_ms: seed.maybe(seed.n),
            disk_free: seed.maybe(ByteSize::from_bytes(seed.n)), snapshot_event: seed.maybe(EventId::new(seed.n)),
            snapshot_age_ms: seed.maybe(seed.n), fenced: seed.some, short_of_space: seed.some,
            aside: vec![seed.text.clone()], trouble: seed.maybe(seed.text.clone()),
        });
        let refused =
            PeerRefused { from: seed.text.clone(), why: seed.text.clone(), at: Timestamp::from_ms(seed.n) };
        let (event, at) = (EventId::new(seed.n), Timestamp::from_ms(seed.n));
        let row = BackupRow { id: seed.text.clone(), event, at, age_ms: seed.n };
        let failure =
            BackupFailure { step: seed.text.clone(), why: seed.text.clone(), at, goes_on: seed.some };
        let backup = same(BackupStatus {
            place: seed.maybe(seed.text.clone()), last: seed.maybe(row.clone()), drill: seed.maybe(row),
            archive: seed.maybe(ArchiveRow { event, behind_events: seed.n, age_ms: seed.n }),
            busy: seed.maybe(seed.text.clone()), failures: vec![failure],
        });
        let apart = same(ApartRow {
            node, name: seed.name.clone(), role: NodeRole::Edge, holds: seed.held(), here: seed.held(),
            why: seed.text.clone(), stops: vec![InstanceId::from_u128(seed.bits)], starts: Vec::new(),
            keeps: vec![InstanceId::from_u128(seed.bits)],
        });
        for failover in [Failover::Automatic, Failover::Operator] {
            same(ClusterStatus {
                cluster: seed.text.clone(), fingerprint: seed.maybe(seed.text.clone()), own: node, failover, leader: seed.maybe(node),
                epoch: Epoch::new(seed.n), term: Term::new(seed.n), quorum: seed.some,
                head: EventId::new(seed.n), members: vec![member.clone()], refused: seed.maybe(refused.clone()),
                backup: seed.maybe(backup.clone()),
                apart: vec![apart.clone()],
            });
        }
    }

    #[test]
    fn problems_read_back(seed in seeds(), place in 0..Code::ALL.len(), outcome in 0..3usize) {
        let code = Code::ALL[place];
        let outcome = [Outcome::Executed, Outcome::NotExecuted, Outcome::Unknown][outcome];
        let problem = Problem::new(code, seed.text.clone()).with_outcome(outcome);
        let problem = match seed.some {
            true => problem.with_hint("x").with_path("y").with_request(RequestId::from_u128(seed.bits)),
            false => problem,
        };
        let problem = same(problem);
        prop_assert_eq!(problem.status, code.status());
        prop_assert_eq!(problem.exit_code() == 7, outcome == Outcome::Unknown || code.exit_code() == 7);
    }
}

#[test]
fn an_unknown_key_in_a_request_is_refused() {
    let error = serde_json::from_str::<ScaleRequest>(r#"{"process":"web","replicas":1,"force":true}"#)
        .expect_err("an unknown key");
    assert!(error.to_string().contains("force"), "{error}");
}

fn people_read_back(seed: &Seed) {
    let (name, role, password) = (seed.name.clone(), TokenRole::Admin, Password::new(seed.text.clone()));
    same(LoginRequest { name: seed.text.clone(), password: password.clone() });
    same(LoginAnswer {
        person: PersonId::from_u128(seed.bits),
        name: name.clone(),
        role,
        csrf: seed.text.clone(),
        idle: DurationMs::from_ms(seed.n),
        ends: Timestamp::from_ms(seed.n),
    });
    same(PersonRequest { name: name.clone(), role, password: seed.maybe(password.clone()) });
    same(PersonChange { role: seed.maybe(role), password: seed.maybe(password.clone()) });
    same(PasswordChange { current: password.clone(), password });
    same(OwnTokenRequest {
        name: name.clone(),
        role: seed.maybe(role),
        expires_in: DurationMs::from_ms(seed.n),
    });
    same(PersonRow {
        id: PersonId::from_u128(seed.bits),
        name: name.clone(),
        role,
        org: name,
        added: Timestamp::from_ms(seed.n),
        tokens: seed.n,
        password: seed.n.is_multiple_of(2),
        identity: seed.maybe(PersonIdentity { issuer: seed.text.clone(), subject: seed.text.clone() }),
    });
}
