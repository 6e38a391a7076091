//! A stored event: any bytes are read or refused, and what is read is written as it is read.
#![no_main]

use domain::codec;
use libfuzzer_sys::fuzz_target;
use types::{Epoch, EventId};

fuzz_target!(|bytes: &[u8]| {
    let (id, epoch) = (EventId::new(1), Epoch::new(1));
    if let Ok(envelope) = codec::decode(id, epoch, bytes) {
        let again = codec::decode(id, epoch, &codec::encode(&envelope));
        assert_eq!(again.as_ref().ok(), Some(&envelope), "{again:?}");
    }
});
