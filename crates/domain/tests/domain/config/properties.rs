//! Whatever is written, approved, rejected, scheduled and rolled back, in any order: nothing is
//! published that was not approved as it stands.

use super::{Desk, key, reviewed, set, value};
use holdfast_domain::{
    Command, Event, State, codec,
    config::{Based, ChangeStep, ConfigCommand, ConfigEvent, Edit, Put, Settings, Stage, Who},
    view::Views,
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use types::{ChangeId, ConfigKey, DurationMs, NamespaceId, PersonId, ValueKind};

#[derive(Clone, Copy, Debug)]
enum Act {
    Draft {
        who: u8,
        key: u8,
        text: u8,
    },
    Edit {
        who: u8,
        nth: u8,
        key: u8,
        text: u8,
        rebase: bool,
    },
    Drop {
        who: u8,
        nth: u8,
        key: u8,
    },
    Submit {
        nth: u8,
    },
    Approve {
        who: u8,
        nth: u8,
    },
    /// Of what was there before the last edit.
    ApproveSeen {
        who: u8,
        nth: u8,
    },
    Look {
        nth: u8,
    },
    Reject {
        who: u8,
        nth: u8,
    },
    Withdraw {
        who: u8,
        nth: u8,
    },
    Schedule {
        who: u8,
        nth: u8,
        seconds: u8,
    },
    Publish {
        who: u8,
        nth: u8,
    },
    /// All the way, as far as it may go from where it stands.
    Through {
        nth: u8,
    },
    Direct {
        key: u8,
        text: u8,
    },
    RollBack {
        who: u8,
        key: u8,
    },
    Approvals {
        count: u8,
    },
    Demote {
        who: u8,
        back: bool,
    },
    Wait {
        seconds: u8,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let (who, key, text) = (0..3u8, 0..3u8, 0..3u8);
    // Mostly about the oldest open change, so that it gets somewhere.
    let nth = prop_oneof![4 => Just(0u8), 1 => 1..3u8].boxed();
    let back = prop::bool::weighted(0.8);
    prop_oneof![
        3 => (who.clone(), key.clone(), text.clone()).prop_map(|(who, key, text)| Act::Draft { who, key, text }),
        3 => (who.clone(), nth.clone(), key.clone(), text.clone(), any::<bool>())
            .prop_map(|(who, nth, key, text, rebase)| Act::Edit { who, nth, key, text, rebase }),
        1 => (who.clone(), nth.clone(), key.clone()).prop_map(|(who, nth, key)| Act::Drop { who, nth, key }),
        5 => nth.clone().prop_map(|nth| Act::Submit { nth }),
        6 => (who.clone(), nth.clone()).prop_map(|(who, nth)| Act::Approve { who, nth }),
        2 => (who.clone(), nth.clone()).prop_map(|(who, nth)| Act::ApproveSeen { who, nth }),
        2 => nth.clone().prop_map(|nth| Act::Look { nth }),
        1 => (who.clone(), nth.clone()).prop_map(|(who, nth)| Act::Reject { who, nth }),
        1 => (who.clone(), nth.clone()).prop_map(|(who, nth)| Act::Withdraw { who, nth }),
        2 => (who.clone(), nth.clone(), 1..9u8).prop_map(|(who, nth, seconds)| Act::Schedule { who, nth, seconds }),
        5 => (who.clone(), nth.clone()).prop_map(|(who, nth)| Act::Publish { who, nth }),
        3 => nth.clone().prop_map(|nth| Act::Through { nth }),
        1 => (key.clone(), text).prop_map(|(key, text)| Act::Direct { key, text }),
        1 => (who.clone(), key).prop_map(|(who, key)| Act::RollBack { who, key }),
        1 => (0..3u8).prop_map(|count| Act::Approvals { count }),
        1 => (who, back).prop_map(|(who, back)| Act::Demote { who, back }),
        2 => (1..9u8).prop_map(|seconds| Act::Wait { seconds }),
    ]
}

type Content = BTreeMap<ConfigKey, Based>;

/// What each change is, told from events alone, in another way than the state does it.
#[derive(Default)]
struct Oracle {
    changes: BTreeMap<ChangeId, Told>,
    versions: BTreeMap<ConfigKey, u32>,
    approvals_asked: usize,
    reviewed: usize,
}

#[derive(Default)]
struct Told {
    content: Content,
    writers: BTreeSet<Who>,
    approvals: Vec<(Who, Content)>,
}

impl Oracle {
    fn hear(&mut self, event: &Event, reviewers: &BTreeSet<PersonId>) {
        let Event::Config(event) = event else { return };
        match event {
            ConfigEvent::Drafted { change, by, edits, .. } => {
                let told = self.changes.entry(*change).or_default();
                told.writers.insert(*by);
                told.content.extend(edits.iter().map(|edit| (edit.key.clone(), edit.clone())));
            }
            ConfigEvent::Edited { change, by, edits, dropped, rebased, .. } => {
                let told = self.changes.get_mut(change).expect("drafted before");
                told.writers.insert(*by);
                dropped.iter().for_each(|key| drop(told.content.remove(key)));
                told.content.extend(edits.iter().map(|edit| (edit.key.clone(), edit.clone())));
                for (key, base) in rebased {
                    told.content.get_mut(key).expect("it is there").base = *base;
                }
            }
            ConfigEvent::Approved { change, by, .. } => {
                let told = self.changes.get_mut(change).expect("drafted before");
                assert!(!told.writers.contains(by), "four eyes");
                assert!(matches!(by, Who::Person(id) if reviewers.contains(id)), "only reviewers");
                let content = told.content.clone();
                told.approvals.push((*by, content));
            }
            ConfigEvent::Rejected { change, .. } => {
                self.changes.get_mut(change).expect("drafted before").approvals.clear();
            }
            ConfigEvent::Written { edits, .. } => edits.iter().for_each(|edit| self.publish(edit)),
            ConfigEvent::Published { change, break_glass, .. } => {
                assert!(break_glass.is_none());
                let told = self.changes.remove(change).expect("drafted before");
                let counts = |by: &Who| {
                    matches!(by, Who::Person(id) if reviewers.contains(id)) && !told.writers.contains(by)
                };
                let yes: BTreeSet<Who> = (told.approvals.iter())
                    .filter(|(by, content)| *content == told.content && counts(by))
                    .map(|(by, _)| *by)
                    .collect();
                assert!(yes.len() >= self.approvals_asked.max(1), "published without approval as it stands");
                self.reviewed += 1;
                told.content.values().for_each(|edit| self.publish(edit));
            }
            _ => {}
        }
    }

    fn publish(&mut self, edit: &Based) {
        let version = self.versions.entry(edit.key.clone()).or_default();
        assert_eq!(edit.base, *version, "it rests on what was there");
        *version += 1;
    }
}

struct Run {
    desk: Desk,
    shop: NamespaceId,
    oracle: Oracle,
    heard: usize,
    seen: BTreeMap<ChangeId, (u32, [u8; 32])>,
}

fn at(nth: u8) -> &'static str {
    ["a", "b", "c"][usize::from(nth)]
}

impl Run {
    fn new() -> Self {
        let mut desk = Desk::new();
        let dan =
            Command::SetPerson { person: desk.cid, role: Some(holdfast_domain::Role::Operator), hash: None };
        desk.world.ok(dan);
        let shop = desk.namespace("shop", reviewed());
        let oracle = Oracle { approvals_asked: 1, ..Oracle::default() };
        Self { heard: desk.world.log.len(), desk, shop, oracle, seen: BTreeMap::new() }
    }

    fn who(&self, nth: u8) -> PersonId {
        [self.desk.ann, self.desk.bob, self.desk.cid][usize::from(nth)]
    }

    fn step(&mut self, who: u8, nth: u8, step: ChangeStep) {
        let found = self.desk.world.state.config.changes.keys().nth(usize::from(nth)).copied();
        if let Some(change) = found {
            // It may be refused.
            let _ = self.desk.step(self.who(who), change, step);
        }
    }

    fn nth(&self, nth: u8) -> Option<(ChangeId, (u32, [u8; 32]))> {
        let (id, change) = self.desk.world.state.config.changes.iter().nth(usize::from(nth))?;
        Some((*id, (change.revision, change.hash)))
    }

    fn setting(&mut self, settings: Settings) {
        let (namespace, settings) = (self.shop, Some(Arc::new(settings)));
        let command = ConfigCommand::SetNamespace { namespace, inherits: None, description: None, settings };
        self.desk.world.ok(Command::Config(command));
    }

    fn settings(&self) -> Settings {
        Settings { approvals: Some(self.oracle.approvals_asked as u8), ..reviewed() }
    }

    fn act(&mut self, act: Act) {
        let draft =
            |edit: Edit| ConfigCommand::Draft { namespace: self.shop, title: "t".into(), edits: vec![edit] };
        match act {
            Act::Draft { who, key, text } => {
                let command = draft(set(at(key), &text.to_string()));
                let _ = self.desk.says(self.who(who), command);
            }
            Act::Edit { who, nth, key, text, rebase } => {
                let edits = vec![set(at(key), &text.to_string())];
                self.step(who, nth, ChangeStep::Edit { title: None, edits, drop: vec![], rebase });
            }
            Act::Drop { who, nth, key: dropped } => {
                let drop = vec![key(at(dropped))];
                self.step(who, nth, ChangeStep::Edit { title: None, edits: vec![], drop, rebase: true });
            }
            Act::Submit { nth } => self.step(0, nth, ChangeStep::Submit),
            Act::Through { nth } => {
                self.act(Act::Submit { nth });
                (0..3).for_each(|who| self.act(Act::Approve { who, nth }));
                self.act(Act::Publish { who: 0, nth });
            }
            Act::Look { nth } => self.seen.extend(self.nth(nth)),
            Act::Approve { who, nth } => {
                if let Some((_, (revision, hash))) = self.nth(nth) {
                    self.step(who, nth, ChangeStep::Approve { revision, hash });
                }
            }
            Act::ApproveSeen { who, nth } => {
                let seen = self.nth(nth).and_then(|(id, _)| self.seen.get(&id).copied());
                if let Some((revision, hash)) = seen {
                    self.step(who, nth, ChangeStep::Approve { revision, hash });
                }
            }
            Act::Reject { who, nth } => {
                if let Some((_, (revision, _))) = self.nth(nth) {
                    self.step(who, nth, ChangeStep::Reject { revision, reason: "no".into() });
                }
            }
            Act::Withdraw { who, nth } => self.step(who, nth, ChangeStep::Withdraw { reason: "".into() }),
            Act::Schedule { who, nth, seconds } => {
                let at = Some(self.desk.world.now.plus(DurationMs::from_secs(seconds.into())));
                self.step(who, nth, ChangeStep::Schedule { at });
            }
            Act::Publish { who, nth } => self.step(who, nth, ChangeStep::Publish),
            Act::Direct { key: written, text } => {
                self.setting(Settings { direct: Some(true), ..self.settings() });
                let _ = self.desk.write(self.shop, &[set(at(written), &text.to_string())]);
                self.setting(self.settings());
            }
            Act::RollBack { who, key: back } => {
                let put = if back == 0 { Put::Delete } else { value(ValueKind::String, "0") };
                let command = draft(Edit { put, ..set(at(back), "") });
                let _ = self.desk.says(self.who(who), command);
            }
            Act::Approvals { count } => {
                self.oracle.approvals_asked = usize::from(count);
                self.setting(self.settings());
            }
            Act::Demote { who, back } => {
                use holdfast_domain::Role::{Operator, Viewer};
                let role = Some(if back { Operator } else { Viewer });
                self.desk.world.ok(Command::SetPerson { person: self.who(who), role, hash: None });
            }
            Act::Wait { seconds } => self.wait(seconds),
        }
        self.hear();
    }

    fn wait(&mut self, seconds: u8) {
        self.desk.world.wait(DurationMs::from_secs(seconds.into()));
        let now = self.desk.world.now;
        let due: Vec<ChangeId> = self
            .desk
            .world
            .state
            .config
            .due
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
            .collect();
        for change in due {
            self.desk
                .world
                .ok(Command::Config(ConfigCommand::Change { change, step: ChangeStep::PublishDue }));
            self.hear();
        }
    }

    fn hear(&mut self) {
        let state = &self.desk.world.state;
        let is_reviewer = |id: &PersonId| state.people[id].role == holdfast_domain::Role::Operator;
        let reviewers: BTreeSet<PersonId> = state.people.keys().copied().filter(is_reviewer).collect();
        for envelope in &self.desk.world.log[self.heard..] {
            self.oracle.hear(&envelope.event, &reviewers);
        }
        self.heard = self.desk.world.log.len();
    }

    /// What the state and the oracle and the views must agree on.
    fn check(&self) {
        let (state, config) = (&self.desk.world.state, &self.desk.world.state.config);
        let shop = &config.namespaces[&self.shop];
        let versions: BTreeMap<ConfigKey, u32> =
            shop.entries.iter().map(|(key, entry)| (key.clone(), entry.version)).collect();
        assert_eq!(versions, self.oracle.versions);
        let bytes: u64 =
            shop.entries.values().filter_map(|entry| entry.value()).map(|value| value.size()).sum();
        let proposed: u64 = config.changes.values().map(|change| change.bytes).sum();
        assert_eq!(shop.bytes, bytes);
        assert_eq!(config.usage[&self.desk.world.org].bytes, bytes + proposed);
        let touched: usize = config.changes.values().map(|change| change.edits.len()).sum();
        assert_eq!((config.touched.len(), config.open.len()), (touched, config.changes.len()));
        for (id, change) in &config.changes {
            let row = &self.desk.world.views.config().changes[id];
            assert_eq!(
                (row.stage, row.revision, row.edits.len()),
                (change.stage, change.revision, change.edits.len())
            );
            assert!(change.stage != Stage::Draft || change.approvals.is_empty());
        }
        let mut again = State::default();
        let mut views = Views::new();
        for envelope in &self.desk.world.log {
            let stored = codec::encode(envelope);
            let read = codec::decode(envelope.id, envelope.epoch, &stored).expect("it was written");
            again.apply(&read);
            views.apply(&read);
        }
        assert_eq!(again, *state);
        assert_eq!(views.fingerprint("config"), self.desk.world.views.fingerprint("config"));
        let snapshot = postcard::to_allocvec(state).expect("a snapshot");
        assert_eq!(postcard::from_bytes::<State>(&snapshot).expect("the same"), *state);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn nothing_is_published_that_was_not_approved_as_it_stands(acts in prop::collection::vec(act(), 1..60)) {
        let mut run = Run::new();
        acts.into_iter().for_each(|act| run.act(act));
        run.check();
    }
}

/// The property means something only if a good part of what it tries is published.
#[test]
fn the_acts_of_the_property_lead_to_releases() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut reviewed = 0;
    for _ in 0..48 {
        let acts = prop::collection::vec(act(), 60).new_tree(&mut runner).expect("acts").current();
        let mut run = Run::new();
        acts.into_iter().for_each(|act| run.act(act));
        reviewed += run.oracle.reviewed;
    }
    assert!(reviewed > 24, "only {reviewed} changes were published");
}
