//! Events as readers see them.

use serde::{Deserialize, Serialize};
use types::{Epoch, EventId, RequestId, Timestamp};
use utoipa::{IntoParams, ToSchema};

/// Which events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only events after this one; 0 is from the first.
    #[serde(default)]
    #[param(value_type = u64)]
    #[schema(value_type = u64)]
    pub after: EventId,
    /// At most this many in a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// For pages: if there is none yet, wait for one up to the bound of a long poll.
    #[serde(default)]
    pub wait: bool,
}

/// One page of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    /// In order, without gaps.
    pub events: Vec<EventRow>,
    /// The last event there is.
    #[schema(value_type = u64)]
    pub head: EventId,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventRow {
    /// Its place in the one order.
    #[schema(value_type = u64)]
    pub id: EventId,
    /// When it was decided, by the clock of who decided.
    #[schema(value_type = u64)]
    pub at: Timestamp,
    /// Its kind, as in `deploy.started`.
    pub kind: String,
    /// The version of the shape of `data`.
    pub version: u32,
    /// What it is about.
    pub subject: Subject,
    /// Who caused it.
    pub actor: String,
    /// The request that caused it, if a request did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub request_id: Option<RequestId>,
    /// The authority under which it was written.
    #[schema(value_type = u64)]
    pub epoch: Epoch,
    /// The event that led to it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub cause: Option<EventId>,
    /// What it says.
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
}

/// The aggregate that an event belongs to, and its place in that aggregate's own order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subject {
    /// The type of aggregate, as in `deploy`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id.
    pub id: String,
    /// 1, 2, 3, … within the aggregate.
    pub sequence: u64,
}
