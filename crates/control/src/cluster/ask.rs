//! What members ask each other besides consensus, and how that is written.
//!
//! One byte that no message of consensus begins with, and the content in postcard. Both sides are of
//! one release or the next: a kind that is not known is refused with that word.

use super::report::MemberReport;
use crate::audit::JournalAsk;
use bytes::Bytes;
use log::cluster::{Answer, Member, Question};
use serde::{Deserialize, Serialize};
use types::NodeId;

/// The first byte.
const MARK: u8 = 0xc1;

/// A request of HTTP that another member shall answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpAsk {
    /// The method.
    pub method: String,
    /// Path and query.
    pub uri: String,
    /// The headers that count.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, whole.
    pub body: Vec<u8>,
    /// Who forwards it.
    pub by: NodeId,
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpTold {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, whole.
    pub body: Vec<u8>,
}

/// Set on a request that another member forwarded: it is answered here or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// Who forwarded it.
    pub by: NodeId,
}

/// What another member is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Answer this.
    Http(HttpAsk),
    /// How are you?
    Report,
    /// Make one a member, as it asks in these bytes.
    Admit(Vec<u8>),
    /// This is where I am reached now. Taken from that very member only.
    Moved { node: NodeId, member: Member },
    /// My log is damaged.
    Repair(Question),
    /// A member that cannot be reached by you, perhaps, has told me where it is reached now.
    HasMoved { node: NodeId, member: Member },
    /// What does your journal say?
    Journal(JournalAsk),
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    /// An answer of HTTP.
    Http(HttpTold),
    /// How it is.
    Report(Box<MemberReport>),
    /// What the new member needs.
    Admitted(Vec<u8>),
    /// It is noted.
    Noted,
    /// What helps.
    Repair(Answer),
    /// Whether it was done, nobody can say here, or the answer cannot be given; and why.
    Unclear(String),
    /// What its journal says, as JSON: lines hold what somebody asked for in JSON.
    Journal(Vec<u8>),
}

impl Told {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "HTTP",
            Self::Report(_) => "a report",
            Self::Admitted(_) => "an admission",
            Self::Noted => "a note",
            Self::Repair(_) => "a part of its log",
            Self::Unclear(_) => "a doubt",
            Self::Journal(_) => "its journal",
        }
    }

    pub fn write(&self) -> Bytes {
        postcard::to_stdvec(self).expect("answers are plain data").into()
    }

    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        postcard::from_bytes(bytes).map_err(|error| format!("its answer cannot be read: {error}"))
    }
}

impl Ask {
    /// Whether a message is one of these, and not one of consensus.
    pub fn is(message: &[u8]) -> bool {
        message.first() == Some(&MARK)
    }

    pub fn write(&self) -> Bytes {
        postcard::to_extend(self, vec![MARK]).expect("asks are plain data").into()
    }

    pub fn read(message: &[u8]) -> Result<Self, String> {
        let content = message.get(1..).unwrap_or_default();
        postcard::from_bytes(content).map_err(|error| format!("this member does not understand it: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ask_is_read_as_it_was_written_and_told_from_consensus() {
        let ask = HttpAsk {
            method: "POST".into(),
            uri: "/v1/tokens?x=1".into(),
            headers: vec![("accept".into(), b"*/*".to_vec())],
            body: b"{}".to_vec(),
            by: NodeId::from_u128(7),
        };
        let written = Ask::Http(ask.clone()).write();
        assert!(Ask::is(&written) && !Ask::is(&[1, 2]) && !Ask::is(&[]));
        match Ask::read(&written).expect("readable") {
            Ask::Http(read) => assert_eq!(read, ask),
            other => panic!("{other:?}"),
        }
        let why = Ask::read(&[MARK, 99]).expect_err("no such kind");
        assert!(why.contains("does not understand"), "{why}");
    }
}
