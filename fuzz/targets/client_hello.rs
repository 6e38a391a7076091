//! The first bytes of a connection at the edge: however they are cut the answer is the same, every byte is kept,
//! and rustls, which takes part in handshakes, reads no other name out of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Once;
use types::limits::CLIENT_HELLO;

/// The reader itself, which is private to the edge.
#[path = "../../crates/edge/src"]
mod edge {
    pub mod hello;
}
use edge::hello::{Error, Progress, Reader};

/// What the edge would do with these bytes when they come in pieces of this size.
fn read(bytes: &[u8], piece: usize) -> Result<Progress, Error> {
    let mut reader = Reader::default();
    let mut fed = 0;
    for piece in bytes.chunks(piece) {
        let piece = &piece[..piece.len().min(reader.room())];
        fed += piece.len();
        match reader.feed(piece)? {
            Progress::Incomplete => {}
            name => {
                assert_eq!(reader.into_raw(), bytes[..fed], "what was read goes to the backend as it came");
                return Ok(name);
            }
        }
        assert!(fed < CLIENT_HELLO, "a full reader has decided");
    }
    Ok(Progress::Incomplete)
}

/// The name that rustls reads; none if it refuses the bytes, wants more of them, or there is none.
fn by_rustls(bytes: &[u8]) -> Option<String> {
    let mut acceptor = rustls::server::Acceptor::default();
    let mut left = bytes;
    while !left.is_empty() {
        acceptor.read_tls(&mut left).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            return accepted.client_hello().server_name().map(str::to_owned);
        }
    }
    None
}

fuzz_target!(|input: (u8, &[u8])| {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let (piece, bytes) = input;
    let whole = read(bytes, CLIENT_HELLO);
    let in_pieces = read(bytes, usize::from(piece) + 1);
    assert_eq!(whole, in_pieces, "how it was cut changes nothing");
    if let (Ok(Progress::Name(ours)), Some(theirs)) = (&whole, by_rustls(bytes)) {
        // A dot at its end makes a name absolute, and no other.
        let theirs = theirs.strip_suffix('.').unwrap_or(&theirs);
        assert!(theirs.eq_ignore_ascii_case(ours.as_str()), "{theirs:?} is not {ours:?}");
    }
});
