//! Reads the server name out of a TLS ClientHello without taking part in the handshake.
//!
//! The edge passes TLS through: every byte it reads here is kept and sent to the backend as it
//! came. A hello may be cut anywhere, across TCP segments and across TLS records (RFC 8446, 5.1:
//! handshake messages may be split over records), so the reader takes bytes as they come and keeps
//! two things: the raw bytes, and the handshake message put together from the records.
//!
//! Invariants:
//! - it holds at most [`CLIENT_HELLO`] raw bytes and works in time linear in them;
//! - it never panics, whatever the bytes;
//! - extensions other than `server_name` are stepped over by their length and never looked at, so
//!   GREASE, ECH and whatever comes later pass.

use types::{HostName, limits::CLIENT_HELLO};

/// What is known after some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The name is not known yet.
    Incomplete,
    /// The client asks for this name.
    Name(HostName),
}

/// Why a connection cannot be routed by its first bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not a TLS handshake.
    #[error("the first bytes are not a TLS ClientHello")]
    NotTls,
    /// It is a ClientHello whose lengths do not add up.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// It is sound and asks for no name.
    #[error("the ClientHello names no server")]
    NoName,
    /// It asks for something that is no host name.
    #[error("the server name is not a host name")]
    BadName,
    /// The bound was reached before the name was known.
    #[error("the ClientHello is longer than {CLIENT_HELLO} bytes")]
    TooLong,
}

const RECORD_HEADER: usize = 5;
const RECORD_HANDSHAKE: u8 = 22;
const RECORD_MAX: usize = 1 << 14;
const HANDSHAKE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const NAME_TYPE_HOST: u8 = 0;

/// Takes the first bytes of a connection until the server name is known.
#[derive(Debug, Default)]
pub struct Reader {
    raw: Vec<u8>,
    /// How much of `raw` has been looked at: always the start of a record header or inside a record.
    seen: usize,
    /// Bytes of the record under way that are still to come.
    record_left: usize,
    handshake: Vec<u8>,
}

impl Reader {
    /// How many more bytes may be fed.
    pub fn room(&self) -> usize {
        CLIENT_HELLO - self.raw.len()
    }

    /// Takes the next bytes; at most [`Self::room`] of them are expected.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Progress, Error> {
        if bytes.len() > self.room() {
            return Err(Error::TooLong);
        }
        self.raw.extend_from_slice(bytes);
        self.take_records()?;
        let whole = self.message_is_whole()?;
        if !whole && self.room() > 0 {
            return Ok(Progress::Incomplete);
        }
        match find_name(&self.handshake) {
            Ok(name) => Ok(Progress::Name(name)),
            Err(Stop::Refused(error)) => Err(error),
            Err(Stop::Short) => Err(if whole { Error::Malformed } else { Error::TooLong }),
        }
    }

    /// Every byte that was fed, in order, for the backend.
    pub fn into_raw(self) -> Vec<u8> {
        self.raw
    }

    /// Moves the payload of handshake records from `raw` to `handshake`, as far as it goes.
    fn take_records(&mut self) -> Result<(), Error> {
        loop {
            if self.message_is_whole()? {
                return Ok(());
            }
            if self.record_left == 0 {
                let header = &self.raw[self.seen..];
                check_header(header)?;
                if header.len() < RECORD_HEADER {
                    return Ok(());
                }
                self.record_left = usize::from(u16::from_be_bytes([header[3], header[4]]));
                self.seen += RECORD_HEADER;
            }
            let here = self.record_left.min(self.raw.len() - self.seen);
            if here == 0 {
                return Ok(());
            }
            self.handshake.extend_from_slice(&self.raw[self.seen..self.seen + here]);
            self.seen += here;
            self.record_left -= here;
        }
    }

    fn message_is_whole(&self) -> Result<bool, Error> {
        match self.handshake[..] {
            [] => Ok(false),
            [kind, ..] if kind != HANDSHAKE_CLIENT_HELLO => Err(Error::NotTls),
            [_, a, b, c, ..] => Ok(self.handshake.len() >= 4 + (u32::from_be_bytes([0, a, b, c]) as usize)),
            _ => Ok(false),
        }
    }
}

/// Refuses a record header at its first wrong byte, so that garbage is closed without waiting.
fn check_header(header: &[u8]) -> Result<(), Error> {
    let wrong_kind = header.first().is_some_and(|kind| *kind != RECORD_HANDSHAKE);
    let wrong_version = header.get(1).is_some_and(|major| *major != 3);
    if wrong_kind || wrong_version {
        return Err(Error::NotTls);
    }
    match header.get(3..RECORD_HEADER) {
        Some(length) => match usize::from(u16::from_be_bytes([length[0], length[1]])) {
            0 => Err(Error::Malformed),
            length if length > RECORD_MAX => Err(Error::Malformed),
            _ => Ok(()),
        },
        None => Ok(()),
    }
}

/// Why [`find_name`] has no name: the bytes end too early, or they are refused.
enum Stop {
    Short,
    Refused(Error),
}

/// A cursor that only goes forward and never past the end.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Stop::Short)?;
        self.0 = tail;
        Ok(head)
    }
    fn u8(&mut self) -> Result<u8, Stop> {
        Ok(self.take(1)?[0])
    }
    fn u16(&mut self) -> Result<u16, Stop> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }
    fn short_vector(&mut self) -> Result<&'a [u8], Stop> {
        let length = self.u8()?;
        self.take(length.into())
    }
    fn vector(&mut self) -> Result<&'a [u8], Stop> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

/// Finds the name in a handshake message that may be cut at its end (RFC 8446, 4.1.2).
fn find_name(message: &[u8]) -> Result<HostName, Stop> {
    let mut outer = Cursor(message);
    outer.u8()?;
    let length = outer.take(3)?;
    let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
    let whole = outer.0.len() >= length;
    let mut hello = Cursor(&outer.0[..length.min(outer.0.len())]);
    hello.take(2 + 32)?;
    hello.short_vector()?;
    hello.vector()?;
    hello.short_vector()?;
    if whole && hello.0.is_empty() {
        return Err(Stop::Refused(Error::NoName));
    }
    let claimed = usize::from(hello.u16()?);
    if whole && claimed != hello.0.len() {
        return Err(Stop::Refused(Error::Malformed));
    }
    let mut extensions = Cursor(&hello.0[..claimed.min(hello.0.len())]);
    let mut found = None;
    // A hello that is whole is read to its end, so that a second `server_name` cannot hide.
    while !(whole && extensions.0.is_empty()) {
        let next = extensions.u16().and_then(|kind| Ok((kind, extensions.vector()?)));
        match next {
            Ok((EXTENSION_SERVER_NAME, body)) if found.is_none() => found = Some(host_in(body)?),
            Ok((EXTENSION_SERVER_NAME, _)) => return Err(Stop::Refused(Error::Malformed)),
            Ok(_) => {}
            Err(Stop::Short) if !whole && found.is_some() => break,
            Err(stop) => return Err(stop),
        }
    }
    found.ok_or(Stop::Refused(Error::NoName))
}

/// The one host name in a `server_name` extension (RFC 6066, 3).
fn host_in(body: &[u8]) -> Result<HostName, Stop> {
    let malformed = |_| Stop::Refused(Error::Malformed);
    let mut body = Cursor(body);
    let mut list = Cursor(body.vector().map_err(malformed)?);
    if !body.0.is_empty() || list.0.is_empty() {
        return Err(Stop::Refused(Error::Malformed));
    }
    let mut found = None;
    while !list.0.is_empty() {
        let kind = list.u8().map_err(malformed)?;
        let name = list.vector().map_err(malformed)?;
        if kind == NAME_TYPE_HOST && found.replace(name).is_some() {
            return Err(Stop::Refused(Error::Malformed));
        }
    }
    let name = found.ok_or(Stop::Refused(Error::NoName))?;
    let text = std::str::from_utf8(name).map_err(|_| Stop::Refused(Error::BadName))?;
    HostName::from_wire(text).map_err(|_| Stop::Refused(Error::BadName))
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
