//! `request_runs_once`: a request id has at most one effect, whatever was resent or restarted.

use crate::{Violation, cluster::Call};
use control::Answer;
use domain::codec;
use log::Record;
use std::collections::BTreeMap;
use types::{EventId, RequestId};

/// The invariant's name.
pub const NAME: &str = "request_runs_once";

/// Where each request stands: its first and its last event.
pub type Places = BTreeMap<RequestId, (EventId, EventId)>;

/// The place of each request.
///
/// # Errors
/// A request has events in two places, or an event cannot be read.
pub fn places(read: &[Record]) -> Result<Places, Violation> {
    let mut places = Places::new();
    for record in read {
        let envelope = codec::decode(record.id, record.epoch, &record.bytes)
            .map_err(|error| Violation::new(NAME, format!("event {}: {error}", record.id)))?;
        let Some(request) = envelope.request else { continue };
        let (first, last) = places.entry(request).or_insert((record.id, record.id));
        if record.id > last.next() {
            let what = format!("request {request} has the events from {first} to {last}, and {}", record.id);
            return Err(Violation::new(NAME, what));
        }
        *last = record.id;
    }
    Ok(places)
}

/// Holds the log and all answers against each other.
///
/// # Errors
/// What does not hold.
pub fn check(read: &[Record], calls: &[Call]) -> Result<(), Violation> {
    places(read)?;
    let mut answers: BTreeMap<RequestId, (EventId, bool)> = BTreeMap::new();
    for call in calls {
        let Some((request, _)) = call.proposal.request else { continue };
        let told = match &call.answer {
            Some(Answer::Executed { event, .. }) => (*event, true),
            Some(Answer::Refused { event: Some(event), .. }) => (*event, false),
            _ => continue,
        };
        let known = *answers.entry(request).or_insert(told);
        if known != told {
            let what = format!("request {request} was answered {known:?}, and {told:?}");
            return Err(Violation::new(NAME, what));
        }
    }
    Ok(())
}
