//! The files that pages load: compiled in, and named by their hash, so that a browser may keep one for
//! ever and never mixes two versions.

use super::frame;
use axum::{
    extract::Path,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// One file.
pub(super) struct Asset {
    content: &'static str,
    media: &'static str,
    name: String,
    integrity: String,
}

impl Asset {
    fn new(name: &str, media: &'static str, content: &'static str) -> Self {
        let hash: [u8; 32] = Sha256::digest(content.as_bytes()).into();
        let short: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let (stem, ending) = name.split_once('.').expect("a name with an ending");
        let name = format!("{stem}-{short}.{ending}");
        Self { content, media, name, integrity: format!("sha256-{}", base64(&hash)) }
    }

    /// Where it is served.
    pub(super) fn path(&self) -> String {
        format!("/assets/{}", self.name)
    }

    /// What a browser holds it against.
    pub(super) fn integrity(&self) -> &str {
        &self.integrity
    }
}

/// Base64 with padding, for one hash: not worth a dependency here.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// The one stylesheet.
pub(super) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("style.css", "text/css; charset=utf-8", include_str!("assets/style.css")));
/// The one script.
pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("script.js", "text/javascript; charset=utf-8", include_str!("assets/script.js"))
});
/// The sign in the browser's tab.
pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")));

/// `GET /assets/{name}`
pub(super) async fn show(Path(name): Path<String>) -> Response {
    let Some(asset) = [&STYLE, &SCRIPT, &ICON].into_iter().find(|asset| asset.name == name) else {
        return frame::guarded((StatusCode::NOT_FOUND, "there is no such file").into_response());
    };
    let keep = HeaderValue::from_static("public, max-age=31536000, immutable");
    let headers =
        [(header::CONTENT_TYPE, HeaderValue::from_static(asset.media)), (header::CACHE_CONTROL, keep)];
    frame::guarded((headers, asset.content).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_the_standard_has_it() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn what_every_page_loads_is_small() {
        let all: usize = [&STYLE, &SCRIPT, &ICON].iter().map(|asset| asset.content.len()).sum();
        assert!(all < 40 << 10, "{all} bytes");
    }
}
