//! Changes of configuration whose time has come.

use super::Step;
use crate::{
    command::Command,
    config::{ChangeStep, ConfigCommand},
    state::State,
};
use types::{Timestamp, limits};

/// Publishes what was scheduled for now or earlier, the first due first. What cannot be published is
/// suspended where it is decided, so nothing is asked for twice.
pub fn publishing(state: &State, now: Timestamp) -> Vec<Step> {
    let due = state.config.due.iter().take_while(|(at, _)| *at <= now).take(limits::CONFIG_DUE);
    let step = |(at, change): &(Timestamp, types::ChangeId)| {
        let cause = state.config.changes.get(change)?.changed;
        let command =
            Command::Config(ConfigCommand::Change { change: *change, step: ChangeStep::PublishDue });
        Some(Step { command, cause, why: format!("{change} was scheduled for {at}") })
    };
    due.filter_map(step).collect()
}
