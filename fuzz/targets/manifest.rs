//! `holdfast.toml`: any text is read or refused with a place inside it, and what is read is the same after a
//! trip through the API's JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// The reader itself, which is part of the program and of no library.
#[path = "../../crates/holdfast/src"]
mod holdfast {
    #[allow(dead_code, reason = "files are not read here")]
    pub mod manifest;
}

fuzz_target!(|text: &str| {
    match holdfast::manifest::parse("holdfast.toml", text) {
        Ok(manifest) => {
            let json = serde_json::to_string(&manifest).expect("a manifest can be sent");
            let arrived = serde_json::from_str(&json).expect("and is understood");
            assert_eq!(manifest, arrived, "{json}");
            assert_eq!(manifest.check(), Ok(()), "what is read is sound");
        }
        Err(refused) => {
            let lines = text.split('\n').count();
            if let Some(at) = &refused.at {
                assert!(at.line >= 1 && at.line <= lines, "line {} of {lines}", at.line);
                assert!(at.column >= 1, "column {}", at.column);
            }
            assert!(!refused.to_string().is_empty());
        }
    }
});
