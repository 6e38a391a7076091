use super::*;
use proptest::prelude::*;
use std::sync::Arc;

/// A ClientHello as rustls makes it, raw from the wire.
fn rustls_hello(name: Option<&str>, fragment: Option<usize>) -> Vec<u8> {
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the default versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
    config.max_fragment_size = fragment;
    config.enable_sni = name.is_some();
    let name = name.unwrap_or("none.test").to_owned().try_into().expect("a server name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut raw = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut raw).expect("a vector takes it");
    }
    raw
}

/// What a hand-made ClientHello is to have.
struct Made<'a> {
    extensions: Vec<(u16, Vec<u8>)>,
    record: usize,
    trailing: &'a [u8],
}

fn made(made: Made<'_>) -> Vec<u8> {
    let mut extensions = Vec::new();
    for (kind, body) in &made.extensions {
        extensions.extend(kind.to_be_bytes());
        extensions.extend((body.len() as u16).to_be_bytes());
        extensions.extend(body);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    body.extend(made.trailing);
    let mut message = vec![1];
    message.extend(&(body.len() as u32).to_be_bytes()[1..]);
    message.extend(body);
    in_records(&message, made.record)
}

fn in_records(message: &[u8], size: usize) -> Vec<u8> {
    let mut raw = Vec::new();
    for part in message.chunks(size) {
        raw.extend([22, 3, 1]);
        raw.extend((part.len() as u16).to_be_bytes());
        raw.extend(part);
    }
    raw
}

fn server_name(name: &[u8]) -> (u16, Vec<u8>) {
    let mut body = Vec::new();
    body.extend((name.len() as u16 + 3).to_be_bytes());
    body.push(0);
    body.extend((name.len() as u16).to_be_bytes());
    body.extend(name);
    (0, body)
}

fn with_extensions(extensions: Vec<(u16, Vec<u8>)>) -> Vec<u8> {
    made(Made { extensions, record: 16_000, trailing: &[] })
}

fn read_all(raw: &[u8]) -> Result<Progress, Error> {
    let mut reader = Reader::default();
    let taken = raw.len().min(reader.room());
    reader.feed(&raw[..taken])
}

fn name(text: &str) -> Result<Progress, Error> {
    Ok(Progress::Name(text.parse().expect("a host name")))
}

#[test]
fn the_name_is_found_however_the_bytes_are_cut() {
    let raw = rustls_hello(Some("shop.example"), None);
    for cut in 1..raw.len() {
        let mut reader = Reader::default();
        assert_eq!(reader.feed(&raw[..cut]), Ok(Progress::Incomplete), "cut at {cut}");
        assert_eq!(reader.feed(&raw[cut..]), name("shop.example"), "cut at {cut}");
        assert_eq!(reader.into_raw(), raw);
    }
}

#[test]
fn the_name_is_found_byte_by_byte_over_many_records() {
    for fragment in [None, Some(32), Some(64), Some(301)] {
        let raw = rustls_hello(Some("shop.example"), fragment);
        let mut reader = Reader::default();
        let mut last = Ok(Progress::Incomplete);
        for (place, byte) in raw.iter().enumerate() {
            assert_eq!(last, Ok(Progress::Incomplete), "at {place} of {}", raw.len());
            last = reader.feed(&[*byte]);
        }
        assert_eq!(last, name("shop.example"));
        assert_eq!(reader.into_raw(), raw);
    }
}

#[test]
fn records_of_one_byte_each_are_put_together() {
    let extensions = vec![server_name(b"a.example")];
    assert_eq!(read_all(&made(Made { extensions, record: 1, trailing: &[] })), name("a.example"));
}

#[test]
fn names_are_matched_in_lower_case_without_final_dot() {
    assert_eq!(read_all(&with_extensions(vec![server_name(b"ShOp.Example")])), name("shop.example"));
    assert_eq!(read_all(&with_extensions(vec![server_name(b"shop.example.")])), name("shop.example"));
}

#[test]
fn unknown_extensions_are_stepped_over() {
    let grease = (0x0a0a, vec![0]);
    let ech = (0xfe0d, vec![0xff; 300]);
    let raw = with_extensions(vec![grease.clone(), ech, server_name(b"a.example"), (0x1a1a, vec![])]);
    assert_eq!(read_all(&raw), name("a.example"));
    assert_eq!(read_all(&with_extensions(vec![grease])), Err(Error::NoName));
}

#[test]
fn a_hello_without_a_usable_name_is_refused() {
    assert_eq!(read_all(&rustls_hello(None, None)), Err(Error::NoName));
    assert_eq!(read_all(&with_extensions(vec![])), Err(Error::NoName));
    for bad in [&b"10.0.0.1"[..], b"a..b", b"-a.example", b"a b", b".", b"\xff\xfe", b"a\0b", b"::1"] {
        assert_eq!(read_all(&with_extensions(vec![server_name(bad)])), Err(Error::BadName), "{bad:?}");
    }
}

#[test]
fn a_hello_that_contradicts_itself_is_refused() {
    let twice = vec![server_name(b"a.example"), server_name(b"b.example")];
    assert_eq!(read_all(&with_extensions(twice)), Err(Error::Malformed));
    let one = [0, 0, 1, b'a', 0, 0, 1, b'b'];
    let two_in_one = (0, [&(one.len() as u16).to_be_bytes()[..], &one].concat());
    assert_eq!(read_all(&with_extensions(vec![two_in_one])), Err(Error::Malformed));
    assert_eq!(read_all(&with_extensions(vec![(0, vec![])])), Err(Error::Malformed));
    assert_eq!(read_all(&with_extensions(vec![(0, vec![0, 9, 0, 0, 1, b'a'])])), Err(Error::Malformed));
    let extensions = vec![server_name(b"a.example")];
    assert_eq!(read_all(&made(Made { extensions, record: 500, trailing: &[1] })), Err(Error::Malformed));
}

#[test]
fn what_is_not_tls_is_refused_at_its_first_wrong_byte() {
    assert_eq!(read_all(b"G"), Err(Error::NotTls));
    assert_eq!(read_all(b"\x16\x02"), Err(Error::NotTls));
    assert_eq!(read_all(b"\x16\x03\x01\x00\x00"), Err(Error::Malformed));
    assert_eq!(read_all(b"\x16\x03\x01\xff\xff"), Err(Error::Malformed));
    assert_eq!(read_all(b"\x16\x03\x01\x00\x01\x02"), Err(Error::NotTls), "a ServerHello");
    assert_eq!(read_all(b"\x15\x03\x01\x00\x02\x02\x28"), Err(Error::NotTls), "an alert");
    let mut alert_between = in_records(&[1, 0, 1, 0], 4);
    alert_between.extend([21, 3, 1, 0, 2, 1, 0]);
    assert_eq!(read_all(&alert_between), Err(Error::NotTls));
}

#[test]
fn a_long_hello_is_read_as_far_as_the_bound() {
    let padding = (21, vec![0; 2 * CLIENT_HELLO]);
    let early = with_extensions(vec![server_name(b"a.example"), padding.clone()]);
    assert_eq!(read_all(&early), name("a.example"), "known before the bound");
    let late = with_extensions(vec![padding, server_name(b"a.example")]);
    assert_eq!(read_all(&late), Err(Error::TooLong));
    let mut reader = Reader::default();
    for byte in &late[..CLIENT_HELLO - 1] {
        assert_eq!(reader.feed(&[*byte]), Ok(Progress::Incomplete));
    }
    assert_eq!(reader.feed(&late[CLIENT_HELLO - 1..CLIENT_HELLO]), Err(Error::TooLong));
    assert_eq!(reader.room(), 0);
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_are_answered(
        bytes in prop::collection::vec(any::<u8>(), 0..2 * CLIENT_HELLO),
        pieces in prop::collection::vec(1usize..600, 1..100),
    ) {
        prop_assert_eq!(feed_in_pieces(&bytes, &pieces), read_all(&bytes));
    }

    #[test]
    fn a_damaged_hello_is_answered(
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        pieces in prop::collection::vec(1usize..600, 1..100),
    ) {
        let mut raw = rustls_hello(Some("shop.example"), Some(80));
        for (place, byte) in places {
            let place = place.index(raw.len());
            raw[place] = byte;
        }
        raw.truncate(cut.index(raw.len() + 1));
        prop_assert_eq!(feed_in_pieces(&raw, &pieces), read_all(&raw));
    }

    #[test]
    fn pieces_and_records_make_no_difference(
        labels in prop::collection::vec("[a-zA-Z][a-z0-9]{0,20}", 1..5),
        record in 1usize..700,
        pieces in prop::collection::vec(1usize..600, 1..100),
        noise in prop::collection::vec((100u16..2000, prop::collection::vec(any::<u8>(), 0..50)), 0..6),
    ) {
        let text = labels.join(".");
        let mut extensions = noise;
        extensions.push(server_name(text.as_bytes()));
        let raw = made(Made { extensions, record, trailing: &[] });
        prop_assume!(raw.len() <= CLIENT_HELLO);
        prop_assert_eq!(feed_in_pieces(&raw, &pieces), name(&text.to_ascii_lowercase()));
    }
}

fn feed_in_pieces(bytes: &[u8], pieces: &[usize]) -> Result<Progress, Error> {
    let mut reader = Reader::default();
    let mut rest = bytes;
    for piece in pieces.iter().cycle() {
        let (head, tail) = rest.split_at((*piece).min(rest.len()).min(reader.room()));
        rest = tail;
        match reader.feed(head)? {
            Progress::Incomplete if rest.is_empty() => return Ok(Progress::Incomplete),
            Progress::Incomplete => assert!(reader.room() > 0, "stuck at the bound"),
            found => {
                assert!(bytes.starts_with(&reader.into_raw()), "the bytes are kept as they came");
                return Ok(found);
            }
        }
    }
    unreachable!("the pieces go round for ever")
}
