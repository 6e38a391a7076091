//! Changes: from a draft to a release, each step by the rules that hold when it is taken.

use super::{
    at_most, event, one, open, reasoned,
    release::{based, may_release, moved},
    review::{approved, is_reviewer, may_approve, needed, reviews},
    said, schema, there, who,
};
use crate::{
    command::Context,
    config::{Based, ChangeStep, ConfigEvent, ConfigRefusal, Edit, Stage, Who},
    confirmed::Confirmed,
    content::Content,
    decide::{Decision, done, member::bounded},
    event::{Actor, Event},
    rejection::Rejection,
    state::{Change, Namespace, Policy, State},
};
use std::sync::Arc;
use types::{ChangeId, ConfigKey, NamespaceId, Timestamp, limits};

/// Begins a change.
pub(super) fn draft(
    state: &State,
    namespace: NamespaceId,
    title: &Arc<str>,
    edits: &[Edit],
    context: &Context,
) -> Result<Decision, Rejection> {
    let found = there(state, namespace)?;
    reasoned("the title of a change", title)?;
    let count = state.config.open_of(namespace).count() as u64;
    at_most(format!("open changes of {}", found.path), count + 1, limits::CONFIG_OPEN_CHANGES as u64)?;
    let edits = based(state, found, edits)?;
    has_room(state, found, edits.iter().map(Based::size).sum())?;
    let change = ChangeId::from_parts(context.now, context.dice(0));
    let summary = format!("drafted {change} for {}", found.path);
    let by = who(state, context.actor);
    Ok(one(ConfigEvent::Drafted { change, namespace, by, title: title.clone(), edits }, summary))
}

/// What is proposed takes room as what is published does.
fn has_room(state: &State, found: &Namespace, more: u64) -> Result<(), Rejection> {
    let used = state.config.usage.get(&found.org).map_or(0, |usage| usage.bytes);
    at_most("bytes of values of an org", used + more, limits::CONFIG_ORG_BYTES.bytes())
}

/// What a step of a change is decided on.
struct Case<'s> {
    state: &'s State,
    id: ChangeId,
    change: &'s Change,
    namespace: &'s Namespace,
    policy: Policy,
    context: &'s Context,
    by: Who,
}

/// Takes a step of a change.
pub(super) fn step(
    state: &State,
    id: ChangeId,
    step: &ChangeStep,
    context: &Context,
) -> Result<Decision, Rejection> {
    let change = open(state, id)?;
    let namespace = there(state, change.namespace)?;
    let policy = state.config.policy(change.namespace);
    let by = who(state, context.actor);
    let case = Case { state, id, change, namespace, policy, context, by };
    match step {
        ChangeStep::Edit { title, edits, drop, rebase } => case.edit(title.as_ref(), edits, drop, *rebase),
        ChangeStep::Submit => case.submit(),
        ChangeStep::Comment { text } => case.comment(text),
        ChangeStep::Approve { revision, hash } => case.approve(*revision, *hash),
        ChangeStep::Reject { revision, reason } => case.reject(*revision, reason),
        ChangeStep::Withdraw { reason } => case.withdraw(reason),
        ChangeStep::Schedule { at } => case.schedule(*at),
        ChangeStep::Publish => case.publish(),
        ChangeStep::BreakGlass { shown, confirmed } => case.break_glass(shown, confirmed),
        ChangeStep::PublishDue => Ok(case.publish_due()),
    }
}

impl Case<'_> {
    fn at(&self) -> NamespaceId {
        self.change.namespace
    }

    /// The life cycle lets it go there, or says why not.
    fn may_go(&self, to: Stage, cannot: &'static str) -> Result<(), Rejection> {
        if self.change.stage != to && self.change.stage.may_go(to) {
            return Ok(());
        }
        let what = format!("change {}", self.id);
        Err(Rejection::LifeCycle { what, is: self.change.stage.as_str().to_owned(), cannot })
    }

    fn is_reviewed(&self, cannot: &'static str) -> Result<(), Rejection> {
        if self.change.stage.is_reviewed() {
            return Ok(());
        }
        let what = format!("change {}", self.id);
        Err(Rejection::LifeCycle { what, is: self.change.stage.as_str().to_owned(), cannot })
    }

    fn edits(&self) -> Vec<&Based> {
        self.change.edits.values().map(|proposed| &proposed.edit).collect()
    }

    fn is_on_base(&self) -> Result<(), Rejection> {
        let moved = moved(self.namespace, self.edits().into_iter());
        match moved.is_empty() {
            true => Ok(()),
            false => Err(ConfigRefusal::BaseMoved(moved).into()),
        }
    }

    fn edit(
        &self,
        title: Option<&Arc<str>>,
        edits: &[Edit],
        dropped: &[ConfigKey],
        rebase: bool,
    ) -> Result<Decision, Rejection> {
        title.map_or(Ok(()), |title| reasoned("the title of a change", title))?;
        at_most("edits of one change", u64::from(self.change.steps) + 1, u64::from(limits::CONFIG_STEPS))?;
        let edits = based(self.state, self.namespace, edits)?;
        let stays = |key: &ConfigKey| !dropped.contains(key) && !edits.iter().any(|edit| edit.key == *key);
        let kept = || self.edits().into_iter().filter(|edit| stays(&edit.key));
        if let Some(unknown) = dropped.iter().find(|key| !self.change.edits.contains_key(*key)) {
            let what = format!("the key {unknown}");
            return Err(Rejection::Invalid { what, why: "is not in the change" });
        }
        at_most("keys of one change", (kept().count() + edits.len()) as u64, limits::CONFIG_EDITS as u64)?;
        let bytes: u64 = kept().chain(&edits).map(Based::size).sum();
        at_most("bytes of the values of one change", bytes, limits::CONFIG_CHANGE_BYTES as u64)?;
        has_room(self.state, self.namespace, bytes.saturating_sub(self.change.bytes))?;
        let version = |key: &ConfigKey| self.namespace.entries.get(key).map_or(0, |entry| entry.version);
        let rebased: Vec<(ConfigKey, u32)> = kept()
            .filter(|edit| rebase && version(&edit.key) != edit.base)
            .map(|edit| (edit.key.clone(), version(&edit.key)))
            .collect();
        if edits.is_empty() && dropped.is_empty() && rebased.is_empty() && title.is_none() {
            return Ok(done(Vec::new(), "is as wanted already"));
        }
        let (change, namespace, by) = (self.id, self.at(), self.by);
        let (title, dropped) = (title.cloned(), dropped.to_vec());
        let edited = ConfigEvent::Edited { change, namespace, by, title, edits, dropped, rebased };
        Ok(one(edited, format!("edited {change}: it is a draft")))
    }

    fn submit(&self) -> Result<Decision, Rejection> {
        self.may_go(Stage::InReview, "be submitted")?;
        if self.change.edits.is_empty() {
            let what = format!("change {}", self.id);
            return Err(Rejection::Invalid { what, why: "changes nothing" });
        }
        self.is_on_base()?;
        schema::check(self.state, self.at(), &self.edits())?;
        let stage = if needed(&self.policy) == 0 { Stage::Approved } else { Stage::InReview };
        let (revision, hash) = (self.change.revision + 1, self.change.content_hash());
        let (change, namespace, by) = (self.id, self.at(), self.by);
        let submitted = ConfigEvent::Submitted { change, namespace, by, revision, hash, stage };
        Ok(one(submitted, format!("submitted {change}: revision {revision} is {}", stage.as_str())))
    }

    fn comment(&self, text: &Arc<str>) -> Result<Decision, Rejection> {
        reasoned("a comment", text)?;
        let count = u64::from(self.change.comments) + 1;
        at_most("comments on one change", count, u64::from(limits::CONFIG_COMMENTS))?;
        let (change, namespace, by, text) = (self.id, self.at(), self.by, text.clone());
        Ok(one(ConfigEvent::Commented { change, namespace, by, text }, format!("commented on {change}")))
    }

    /// Whether what a reviewer looked at is what the change is.
    fn is_as_seen(&self, seen: u32) -> Result<(), Rejection> {
        match self.change.revision == seen {
            true => Ok(()),
            false => Err(ConfigRefusal::OtherRevision { seen, now: self.change.revision }.into()),
        }
    }

    fn approve(&self, revision: u32, hash: [u8; 32]) -> Result<Decision, Rejection> {
        reviews(self.state, &self.policy, self.at(), "approve", self.context)?;
        self.is_as_seen(revision)?;
        if self.change.moved.is_some() {
            self.is_on_base()?;
        }
        self.is_reviewed("be approved")?;
        if self.change.hash != hash {
            return Err(ConfigRefusal::OtherContent { revision }.into());
        }
        self.is_on_base()?;
        let path = self.namespace.path.clone();
        match may_approve(&self.policy, self.change, self.by) {
            true => {}
            false if matches!(self.by, Who::Person(_)) => {
                return Err(ConfigRefusal::OwnChange { path }.into());
            }
            false => return Err(ConfigRefusal::NoMember { path }.into()),
        }
        if self.change.approvals.iter().any(|approval| approval.by == self.by) {
            return Ok(done(Vec::new(), "approved before"));
        }
        let given = self.change.approvals.len() as u64 + 1;
        at_most("approvals of one change", given, u64::from(limits::CONFIG_APPROVALS))?;
        let has = approved(self.state, &self.policy, self.change, self.context.now) + 1;
        let stage = if has >= needed(&self.policy) { Stage::Approved } else { Stage::InReview };
        let stage = stage.max(self.change.stage);
        let (change, namespace, by) = (self.id, self.at(), self.by);
        let yes = ConfigEvent::Approved { change, namespace, by, revision, hash, stage };
        Ok(one(yes, format!("approved {change}: it is {}", stage.as_str())))
    }

    fn reject(&self, revision: u32, reason: &Arc<str>) -> Result<Decision, Rejection> {
        reviews(self.state, &self.policy, self.at(), "reject", self.context)?;
        self.is_as_seen(revision)?;
        self.may_go(Stage::Rejected, "be rejected")?;
        reasoned("the reason", reason)?;
        let (change, namespace, by, reason) = (self.id, self.at(), self.by, reason.clone());
        let no = ConfigEvent::Rejected { change, namespace, by, revision, reason };
        Ok(one(no, format!("rejected {change}")))
    }

    fn withdraw(&self, reason: &Arc<str>) -> Result<Decision, Rejection> {
        said("the reason", reason, limits::CONFIG_COMMENT)?;
        let is_own = self.change.writers.contains(&self.by);
        if !is_own && reviews(self.state, &self.policy, self.at(), "withdraw", self.context).is_err() {
            return Err(ConfigRefusal::NotTheAuthor { path: self.namespace.path.clone() }.into());
        }
        let (change, namespace, by, reason) = (self.id, self.at(), self.by, reason.clone());
        Ok(one(ConfigEvent::Withdrawn { change, namespace, by, reason }, format!("withdrew {change}")))
    }

    fn schedule(&self, at: Option<Timestamp>) -> Result<Decision, Rejection> {
        let (change, namespace, by) = (self.id, self.at(), self.by);
        let scheduled = ConfigEvent::Scheduled { change, namespace, by, at };
        let Some(at) = at else {
            self.publishes(self.by)?;
            return Ok(match self.change.schedule {
                Some(_) => one(scheduled, format!("{change} is not scheduled any more")),
                None => done(Vec::new(), "is as wanted already"),
            });
        };
        self.may_publish(self.by)?;
        let now = self.context.now;
        if at <= now || at > now.plus(limits::CONFIG_AHEAD) {
            let why = "is not in the future, or more than a year ahead";
            return Err(Rejection::Invalid { what: format!("the time {at}"), why });
        }
        Ok(one(scheduled, format!("{change} will be published at {at}")))
    }

    /// Whether somebody publishes here: a reviewer, or whoever could have written directly.
    fn publishes(&self, by: Who) -> Result<(), Rejection> {
        if self.policy.direct {
            return Ok(());
        }
        // Whoever scheduled it is not there any more when its time comes.
        if by != self.by && is_reviewer(self.state, &self.policy, by, self.context.now) {
            return Ok(());
        }
        reviews(self.state, &self.policy, self.at(), "publish", self.context)
    }

    /// Whether the change as it stands may be published in somebody's name.
    fn may_publish(&self, by: Who) -> Result<(), Rejection> {
        self.publishes(by)?;
        self.is_reviewed("be published")?;
        // Settings and reviewers may have changed since the approvals were given.
        let needed = needed(&self.policy);
        let has = approved(self.state, &self.policy, self.change, self.context.now);
        match has < needed {
            true => Err(ConfigRefusal::TooFewApprovals { needed, has }.into()),
            false => self.is_on_base(),
        }
    }

    fn publish(&self) -> Result<Decision, Rejection> {
        self.may_publish(self.by)?;
        self.released(self.by, None)
    }

    fn break_glass(&self, shown: &Content, confirmed: &Confirmed) -> Result<Decision, Rejection> {
        bounded(confirmed)?;
        reasoned("the reason", &confirmed.reason)?;
        Content::of_change(self.state, self.id).unmoved_since(shown)?;
        if self.change.edits.is_empty() {
            let what = format!("change {}", self.id);
            return Err(Rejection::Invalid { what, why: "changes nothing" });
        }
        self.is_on_base()?;
        self.released(self.by, Some(confirmed.clone()))
    }

    fn released(&self, by: Who, break_glass: Option<Confirmed>) -> Result<Decision, Rejection> {
        let others = may_release(self.state, self.at(), &self.edits(), Some(self.id))?;
        let (change, namespace, release) = (self.id, self.at(), self.namespace.release + 1);
        let loud = if break_glass.is_some() { " without review" } else { "" };
        let summary = format!("published {change}{loud}: release {release} of {}", self.namespace.path);
        let published = ConfigEvent::Published { change, namespace, by, release, break_glass };
        let events: Vec<Event> = std::iter::once(event(published)).chain(others).collect();
        Ok(done(events, summary))
    }

    /// Its time has come: it is published in the name of whoever scheduled it, or says why it is not.
    fn publish_due(&self) -> Decision {
        let Some(schedule) = self.change.schedule.filter(|schedule| schedule.at <= self.context.now) else {
            return done(Vec::new(), "is not due");
        };
        if self.context.actor != Actor::System {
            return done(Vec::new(), "is published by the platform");
        }
        let publish = || {
            self.may_publish(schedule.by)?;
            self.released(schedule.by, None)
        };
        publish().unwrap_or_else(|why| {
            let (change, namespace, why) = (self.id, self.at(), Arc::from(why.to_string()));
            one(ConfigEvent::Suspended { change, namespace, why }, format!("suspended {change}"))
        })
    }
}
