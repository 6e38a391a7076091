//! How an object lies in the store: compressed, then sealed in chunks.
//!
//! ```text
//! magic  [u8;8]
//! key id [u8;8]    which key opens it
//! salt   [u8;32]   random: every object has a key of its own, HKDF of the key and this
//! chunks           64 KiB each, the last one shorter or empty, each with its tag of 16 bytes
//! ```
//!
//! Each chunk is sealed with ChaCha20-Poly1305 (RFC 8439). Its nonce is its number and whether it is
//! the last, which no other chunk under that key has. What is authenticated besides: the cluster, the
//! object's name, the number and the last flag once more. So no chunk can be left out, doubled, moved
//! within an object, or brought in from another object, store or cluster; and an object that is cut at
//! a chunk's border does not open either.

use crate::key::{Key, KeyId};
use bytes::Bytes;
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

const MAGIC: &[u8; 8] = b"HFSEAL\0\x01";
const HEADER: usize = 8 + 8 + 32;
const CHUNK: usize = 64 << 10;
const TAG: usize = 16;
/// As fast as a disk, and within a tenth of what the slow levels reach on event records.
const LEVEL: i32 = 3;

/// What an object is bound to besides its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding<'a> {
    pub cluster: &'a str,
    pub name: &'a str,
}

/// Why an object did not open.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// It was sealed with another key.
    OtherKey(KeyId),
    /// It is not what was sealed.
    Damaged { offset: u64, why: &'static str },
}

impl Binding<'_> {
    fn aad(&self, chunk: u64, last: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.cluster.len() + self.name.len() + 32);
        for text in [self.cluster, self.name] {
            out.extend_from_slice(&(text.len() as u64).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(&chunk.to_le_bytes());
        out.push(u8::from(last));
        out
    }
}

fn nonce(chunk: u64, last: bool) -> Nonce {
    let mut out = [0; 12];
    out[..8].copy_from_slice(&chunk.to_le_bytes());
    out[8] = u8::from(last);
    Nonce::assume_unique_for_key(out)
}

fn cipher(key: &Key, salt: &[u8]) -> LessSafeKey {
    let unbound = UnboundKey::new(&CHACHA20_POLY1305, &key.of_object(salt));
    LessSafeKey::new(unbound.expect("such a key has 32 bytes"))
}

/// Compresses and seals.
pub(crate) fn seal(key: &Key, binding: Binding<'_>, content: &[u8]) -> Bytes {
    let packed = zstd::bulk::compress(content, LEVEL).expect("memory can be compressed into memory");
    let mut salt = [0; 32];
    SystemRandom::new().fill(&mut salt).expect("Linux gives random bytes once it has started");
    let cipher = cipher(key, &salt);
    let chunks = packed.len() / CHUNK + 1;
    let mut out = Vec::with_capacity(HEADER + packed.len() + chunks * TAG);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&key.id().0);
    out.extend_from_slice(&salt);
    for chunk in 0..chunks {
        let last = chunk + 1 == chunks;
        let plain = &packed[chunk * CHUNK..packed.len().min((chunk + 1) * CHUNK)];
        let start = out.len();
        out.extend_from_slice(plain);
        let number = chunk as u64;
        let aad = Aad::from(binding.aad(number, last));
        let tag = cipher.seal_in_place_separate_tag(nonce(number, last), aad, &mut out[start..]);
        out.extend_from_slice(tag.expect("a chunk is not too long").as_ref());
    }
    out.into()
}

/// Opens and unpacks what [`seal`] gave; content of more than `limit` bytes is none of ours.
pub(crate) fn open(key: &Key, binding: Binding<'_>, sealed: &[u8], limit: usize) -> Result<Bytes, OpenError> {
    let damaged = |offset: usize, why| Err(OpenError::Damaged { offset: offset as u64, why });
    if sealed.len() < HEADER + TAG {
        return damaged(sealed.len(), "it is cut short");
    }
    if sealed[..8] != *MAGIC {
        return damaged(0, "it does not begin like a sealed object");
    }
    let found = KeyId(sealed[8..16].try_into().expect("a range of eight bytes"));
    if found != key.id() {
        return Err(OpenError::OtherKey(found));
    }
    let cipher = cipher(key, &sealed[16..HEADER]);
    let body = &sealed[HEADER..];
    let chunks = body.len().div_ceil(CHUNK + TAG);
    let mut packed = Vec::with_capacity(body.len());
    for (chunk, sealed) in body.chunks(CHUNK + TAG).enumerate() {
        let (offset, number, last) = (HEADER + chunk * (CHUNK + TAG), chunk as u64, chunk + 1 == chunks);
        let start = packed.len();
        packed.extend_from_slice(sealed);
        let aad = Aad::from(binding.aad(number, last));
        let plain = match cipher.open_in_place(nonce(number, last), aad, &mut packed[start..]) {
            Ok(plain) => plain.len(),
            Err(_) => return damaged(offset, "what stands there is not what was sealed, or not all of it"),
        };
        packed.truncate(start + plain);
    }
    match zstd::bulk::decompress(&packed, limit) {
        Ok(content) => Ok(content.into()),
        Err(_) => damaged(0, "it opens, but does not unpack"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Binding<'static> = Binding { cluster: "demo", name: "objects/a" };

    /// Bytes that do not compress.
    fn noise(size: usize) -> Vec<u8> {
        let mut out = vec![0; size];
        SystemRandom::new().fill(&mut out).expect("random bytes");
        out
    }

    #[test]
    fn every_size_around_a_chunk_opens_as_it_was() {
        let key = Key::new([1; 32]);
        for size in [0, 1, CHUNK - 40, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5] {
            let content = noise(size);
            let sealed = seal(&key, HERE, &content);
            assert_ne!(sealed, seal(&key, HERE, &content), "every object has its own salt");
            assert_eq!(open(&key, HERE, &sealed, size).as_deref(), Ok(&*content), "{size}");
        }
    }

    #[test]
    fn any_change_is_seen() {
        let key = Key::new([1; 32]);
        let content = noise(2 * CHUNK + 100);
        let sealed = seal(&key, HERE, &content).to_vec();
        let opened = |sealed: &[u8]| open(&key, HERE, sealed, content.len());
        for at in [0, 9, 20, HEADER, HEADER + CHUNK, HEADER + CHUNK + TAG, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(opened(&changed).is_err(), "a bit at {at}");
        }
        let borders = [0, HEADER, HEADER + CHUNK + TAG, HEADER + 2 * (CHUNK + TAG), sealed.len() - 1];
        for length in borders {
            assert!(opened(&sealed[..length]).is_err(), "cut at {length}");
        }
        let mut swapped = sealed.clone();
        let (first, second) = swapped[HEADER..].split_at_mut(CHUNK + TAG);
        first.swap_with_slice(&mut second[..CHUNK + TAG]);
        assert_eq!(
            opened(&swapped),
            Err(OpenError::Damaged {
                offset: HEADER as u64,
                why: "what stands there is not what was sealed, or not all of it"
            })
        );
    }

    #[test]
    fn an_object_opens_only_where_it_belongs_and_with_its_key() {
        let key = Key::new([1; 32]);
        let sealed = seal(&key, HERE, b"content");
        for other in [Binding { cluster: "demo2", ..HERE }, Binding { name: "objects/b", ..HERE }] {
            assert!(matches!(open(&key, other, &sealed, 7), Err(OpenError::Damaged { .. })));
        }
        assert_eq!(open(&Key::new([2; 32]), HERE, &sealed, 7), Err(OpenError::OtherKey(key.id())));
        assert!(open(&key, HERE, &sealed, 6).is_err(), "more than may be");
    }
}
