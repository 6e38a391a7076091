//! Apps, their environments, every release and every deploy with its steps.

use super::{Fault, Mark, View, canonical, missing};
use crate::{
    event::{DeployFailure, DeployKind, Envelope, Event},
    state::{DeployState, ReleaseState},
};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use types::{
    AppId, DeployId, EnvId, Name, OrgId, ReleaseId, Timestamp, manifest::Manifest, plan::PinnedImage,
};

/// An app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRow {
    /// Whose it is.
    pub org: OrgId,
    /// Its name.
    pub name: Name,
    /// Its environments, oldest first.
    pub envs: Vec<EnvId>,
    /// When it was made.
    pub created: Mark,
}

/// An environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvRow {
    /// Whose it is.
    pub app: AppId,
    /// Its name.
    pub name: Name,
    /// Its releases, oldest first.
    pub releases: Vec<ReleaseId>,
    /// Its deploys, oldest first; all of them.
    pub deploys: Vec<DeployId>,
    /// The deploy that last succeeded.
    pub serving: Option<DeployId>,
    /// The deploy under way.
    pub rolling: Option<DeployId>,
    /// Instances wanted of each process.
    pub scale: BTreeMap<Name, u32>,
    /// When it was last changed by a person or a deploy.
    pub changed: Mark,
}

/// A release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRow {
    /// Whose it is.
    pub env: EnvId,
    /// 1, 2, 3, … within the environment.
    pub number: u32,
    /// What was declared.
    pub manifest: Arc<Manifest>,
    /// What runs.
    pub image: PinnedImage,
    /// Where it is in its life.
    pub state: ReleaseState,
    /// When it was written down.
    pub created: Mark,
    /// When its state last changed.
    pub changed: Mark,
}

/// One step of a deploy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployStep {
    /// Where it came to.
    pub state: DeployState,
    /// When, by which event.
    pub mark: Mark,
}

/// A deploy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployRow {
    /// Of which environment.
    pub env: EnvId,
    /// To which release.
    pub release: ReleaseId,
    /// Why.
    pub kind: DeployKind,
    /// Where it is.
    pub state: DeployState,
    /// When it fails if it is not done.
    pub deadline: Timestamp,
    /// How many failures end it.
    pub attempts: u32,
    /// Why it failed, if it did.
    pub failure: Option<DeployFailure>,
    /// How it went, oldest first.
    pub steps: Vec<DeployStep>,
}

/// The view.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each field is a table named after its rows")]
pub struct Apps {
    pub orgs: OrdMap<OrgId, Name>,
    pub apps: OrdMap<AppId, Arc<AppRow>>,
    pub envs: OrdMap<EnvId, Arc<EnvRow>>,
    pub releases: OrdMap<ReleaseId, Arc<ReleaseRow>>,
    pub deploys: OrdMap<DeployId, Arc<DeployRow>>,
}

impl Apps {
    /// What people call it.
    pub const NAME: &'static str = "apps";

    fn env(&mut self, id: EnvId, envelope: &Envelope) -> Result<&mut EnvRow, Fault> {
        let env = Arc::make_mut(self.envs.get_mut(&id).ok_or_else(|| missing(envelope, id))?);
        env.changed = Mark::of(envelope);
        Ok(env)
    }

    fn release(&mut self, id: ReleaseId, to: ReleaseState, envelope: &Envelope) -> Result<(), Fault> {
        let release = Arc::make_mut(self.releases.get_mut(&id).ok_or_else(|| missing(envelope, id))?);
        release.state = to;
        release.changed = Mark::of(envelope);
        Ok(())
    }

    fn deploy(
        &mut self,
        id: DeployId,
        to: DeployState,
        envelope: &Envelope,
    ) -> Result<&mut DeployRow, Fault> {
        let deploy = Arc::make_mut(self.deploys.get_mut(&id).ok_or_else(|| missing(envelope, id))?);
        deploy.state = to;
        deploy.steps.push(DeployStep { state: to, mark: Mark::of(envelope) });
        Ok(deploy)
    }

    fn started(&mut self, envelope: &Envelope) -> Result<(), Fault> {
        let Event::DeployStarted { deploy, env, release, kind, deadline, attempts } = envelope.event else {
            return Ok(());
        };
        let row = self.env(env, envelope)?;
        row.deploys.push(deploy);
        row.rolling = Some(deploy);
        let made = DeployRow {
            env,
            release,
            kind,
            state: DeployState::Started,
            deadline,
            attempts,
            failure: None,
            steps: vec![DeployStep { state: DeployState::Started, mark: Mark::of(envelope) }],
        };
        self.deploys.insert(deploy, Arc::new(made));
        Ok(())
    }

    fn ended(&mut self, envelope: &Envelope) -> Result<(), Fault> {
        match &envelope.event {
            Event::DeploySucceeded { deploy } => {
                let env = self.deploy(*deploy, DeployState::Succeeded, envelope)?.env;
                let env = self.env(env, envelope)?;
                env.serving = Some(*deploy);
                env.rolling = None;
            }
            Event::DeployFailed { deploy, failure } => {
                let row = self.deploy(*deploy, DeployState::Failed, envelope)?;
                row.failure = Some(failure.clone());
                let env = row.env;
                let env = self.env(env, envelope)?;
                if env.rolling == Some(*deploy) {
                    env.rolling = None;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What it was stands in the events; nobody reads it here any more.
    fn env_deleted(&mut self, id: EnvId, envelope: &Envelope) -> Result<(), Fault> {
        let row = self.envs.remove(&id).ok_or_else(|| missing(envelope, id))?;
        if let Some(app) = self.apps.get_mut(&row.app) {
            Arc::make_mut(app).envs.retain(|env| *env != id);
        }
        row.releases.iter().for_each(|release| drop(self.releases.remove(release)));
        row.deploys.iter().for_each(|deploy| drop(self.deploys.remove(deploy)));
        Ok(())
    }

    fn created(&mut self, envelope: &Envelope) -> Result<(), Fault> {
        let created = Mark::of(envelope);
        match &envelope.event {
            Event::AppCreated { app, org, name } => {
                let made = AppRow { org: *org, name: name.clone(), envs: Vec::new(), created };
                self.apps.insert(*app, Arc::new(made));
            }
            Event::EnvironmentCreated { env, app, name } => {
                let owner = self.apps.get_mut(app).ok_or_else(|| missing(envelope, app))?;
                Arc::make_mut(owner).envs.push(*env);
                let made = EnvRow {
                    app: *app,
                    name: name.clone(),
                    releases: Vec::new(),
                    deploys: Vec::new(),
                    serving: None,
                    rolling: None,
                    scale: BTreeMap::new(),
                    changed: created,
                };
                self.envs.insert(*env, Arc::new(made));
            }
            Event::ReleaseCreated { release, env, number, manifest, image, .. } => {
                self.env(*env, envelope)?.releases.push(*release);
                let made = ReleaseRow {
                    env: *env,
                    number: *number,
                    manifest: Arc::new(manifest.as_ref().clone()),
                    image: image.clone(),
                    state: ReleaseState::Created,
                    created,
                    changed: created,
                };
                self.releases.insert(*release, Arc::new(made));
            }
            _ => {}
        }
        Ok(())
    }
}

impl View for Apps {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn apply(&mut self, envelope: &Envelope) -> Result<(), Fault> {
        match &envelope.event {
            Event::OrgCreated { org, name } => drop(self.orgs.insert(*org, name.clone())),
            Event::AppCreated { .. } | Event::EnvironmentCreated { .. } | Event::ReleaseCreated { .. } => {
                self.created(envelope)?;
            }
            Event::ReleaseAvailable { release } => {
                self.release(*release, ReleaseState::Available, envelope)?
            }
            Event::ReleasePromoted { release } => self.release(*release, ReleaseState::Promoted, envelope)?,
            Event::ReleaseSuperseded { release } => {
                self.release(*release, ReleaseState::Superseded, envelope)?
            }
            Event::ReleaseRolledBack { release } => {
                self.release(*release, ReleaseState::RolledBack, envelope)?
            }
            Event::DeployStarted { .. } => self.started(envelope)?,
            Event::DeployRolling { deploy } => drop(self.deploy(*deploy, DeployState::Rolling, envelope)?),
            Event::DeployCutOver { deploy } => drop(self.deploy(*deploy, DeployState::Cutover, envelope)?),
            Event::DeploySucceeded { .. } | Event::DeployFailed { .. } => self.ended(envelope)?,
            Event::EnvironmentDeleted { env, .. } => self.env_deleted(*env, envelope)?,
            Event::AppDeleted { app, .. } => {
                self.apps.remove(app).ok_or_else(|| missing(envelope, app))?;
            }
            Event::ScaleSet { env, process, replicas } => {
                self.env(*env, envelope)?.scale.insert(process.clone(), *replicas);
            }
            _ => {}
        }
        Ok(())
    }

    fn rows(&self) -> Vec<u8> {
        canonical(self)
    }
}
