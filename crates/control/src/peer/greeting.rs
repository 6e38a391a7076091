//! The first message on a connection: who calls, from which cluster, in which version.
//!
//! ```text
//!   u8 version │ cluster, text │ node, 16 bytes │ mode, text         as postcard writes them
//! ```
//!
//! The version stands first, so that it can be read whatever comes after it.

use types::NodeId;

/// The version of what is said on a connection. One that speaks another is told so.
pub(super) const VERSION: u8 = 1;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    pub cluster: String,
    pub node: NodeId,
    /// How failover is decided there.
    pub mode: String,
}

impl Greeting {
    pub fn encode(&self) -> Vec<u8> {
        let content = (&self.cluster, self.node, &self.mode);
        postcard::to_extend(&content, vec![VERSION]).expect("a greeting is plain data")
    }

    /// Reads a greeting, or says why it is none that can be answered.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (version, content) = bytes.split_first().ok_or("an empty greeting")?;
        if *version != VERSION {
            return Err(format!("it speaks version {version} of the members' language, not {VERSION}"));
        }
        let (cluster, node, mode) =
            postcard::from_bytes(content).map_err(|error| format!("a greeting: {error}"))?;
        Ok(Self { cluster, node, mode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_read_as_it_was_written() {
        let greeting =
            Greeting { cluster: "one".into(), node: NodeId::from_u128(7), mode: "automatic".into() };
        assert_eq!(Greeting::decode(&greeting.encode()), Ok(greeting));
    }

    #[test]
    fn another_version_is_told_from_nonsense() {
        let why = Greeting::decode(&[9, 255, 255]).expect_err("version 9");
        assert!(why.contains("speaks version 9"), "{why}");
        assert!(Greeting::decode(&[]).is_err());
        assert!(Greeting::decode(&[VERSION, 255]).is_err());
    }
}
