//! Pinning references: from layouts, from a real registry, and from ones that misbehave.

mod kit;

use holdfast_oci::{FetchError, Platform, resolve};
use kit::{Answer, Fake, Layer, Layout, Registry, architecture, digest};
use std::fs;

async fn pinned(reference: &str) -> Result<String, FetchError> {
    resolve(reference, &Platform::host()).await.map(|pinned| {
        assert_eq!(pinned.reference, reference);
        pinned.digest.to_string()
    })
}

#[tokio::test]
async fn a_layout_is_pinned_by_tag_and_through_an_index() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut layout = Layout::new(dir.path().join("layout"));
    let one = layout.image("1.0", &[Layer::files(&[("a", "1")])]);
    let other = layout.image_for("riscv", &[], "riscv64");
    let index = layout.index("all", &[("riscv64", &other), (architecture(), &one)]);
    assert_ne!(index, one);
    assert_eq!(pinned(&layout.reference("1.0")).await.expect("there"), one.to_string());
    assert_eq!(pinned(&layout.reference("all")).await.expect("there"), one.to_string());
    let missing = pinned(&layout.reference("2.0")).await.expect_err("no such tag");
    assert!(matches!(missing, FetchError::NotFound { .. }), "{missing}");
    assert!(missing.to_string().contains("\"1.0\"") && missing.to_string().contains("2.0"), "{missing}");
    let nowhere = pinned(&format!("oci:{}/nowhere:1", dir.path().display())).await.expect_err("no layout");
    assert!(matches!(nowhere, FetchError::NotFound { .. }), "{nowhere}");
    let relative = pinned("oci:here").await.expect_err("relative");
    assert!(relative.to_string().contains("absolute path"), "{relative}");
    let foreign = layout.index("foreign", &[("riscv64", &other)]);
    let refused = pinned(&layout.reference("foreign")).await.expect_err("for another platform");
    assert!(
        refused.to_string().contains(foreign.as_str()) && refused.to_string().contains("linux/"),
        "{refused}"
    );
    fs::write(layout.blob_path(&one), "something else").expect("written");
    let damaged = pinned(&layout.reference("1.0")).await.expect_err("damaged");
    assert!(matches!(damaged, FetchError::Mismatch { .. }), "{damaged}");
}

#[tokio::test]
async fn a_registry_is_pinned_by_tag_by_digest_and_through_an_index() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut layout = Layout::new(dir.path().join("layout"));
    let one = layout.image("1.0", &[Layer::files(&[("a", "1")])]);
    let other = layout.image_for("riscv", &[], "riscv64");
    let index = layout.index("all", &[("riscv64", &other), (architecture(), &one)]);
    let mut registry = Registry::start(dir.path());
    let tagged = registry.push(&layout, "1.0", "team/shop");
    let all = registry.push(&layout, "all", "team/shop");
    let name = tagged.trim_end_matches(":1.0").to_owned();
    for reference in [tagged.clone(), all, format!("{name}@{one}"), format!("{name}@{index}")] {
        assert_eq!(pinned(&reference).await.expect("there"), one.to_string(), "{reference}");
    }
    for missing in [format!("{name}:2.0"), tagged.replace("shop", "shoe"), format!("{name}@{}", digest(b"x"))]
    {
        let error = pinned(&missing).await.expect_err("not pushed");
        assert!(matches!(error, FetchError::NotFound { .. }), "{missing}: {error}");
        assert!(error.to_string().contains(&registry.port.to_string()), "{error}");
    }
    registry.kill();
    let gone = pinned(&tagged).await.expect_err("the registry is dead");
    assert!(matches!(gone, FetchError::Unreachable { .. }), "{gone}");
    assert!(gone.to_string().contains("cannot be reached"), "{gone}");
}

#[tokio::test]
async fn a_registry_that_misbehaves_is_refused_and_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut layout = Layout::new(dir.path().join("layout"));
    let one = layout.image("1.0", &[]);
    let manifest = fs::read(layout.blob_path(&one)).expect("written");
    let bytes = manifest.clone();
    let fake = Fake::start(move |path| match path.rsplit('/').next().expect("a path") {
        "endless" => Answer::Endless(bytes.clone()),
        "cut" => Answer::Cut(bytes.clone()),
        "broken" => Answer::Status("503 Service Unavailable"),
        "forbidden" => Answer::Status("403 Forbidden"),
        "odd" => Answer::Status("418 I am a teapot"),
        "token" => Answer::NeedsToken(bytes.clone()),
        "text" => Answer::Bytes(b"<html>".to_vec()),
        _ => Answer::Bytes(b"{\"schemaVersion\": 2}".to_vec()),
    });
    let name = format!("127.0.0.1:{}/x", fake.port);
    assert_eq!(pinned(&format!("{name}:token")).await.expect("with a token"), one.to_string());
    type Fits = fn(&FetchError) -> bool;
    let cases: [(&str, Fits, &str); 6] = [
        ("endless", |e| matches!(e, FetchError::Invalid { .. }), "more than 4Mi"),
        ("cut", |e| matches!(e, FetchError::Unreachable { .. }), "cannot be reached"),
        ("broken", |e| matches!(e, FetchError::Unreachable { .. }), "503"),
        ("forbidden", |e| matches!(e, FetchError::NotFound { .. }), "private"),
        ("odd", |e| matches!(e, FetchError::Invalid { .. }), "418"),
        ("text", |e| matches!(e, FetchError::Invalid { .. }), "no manifest"),
    ];
    for (tag, fits, text) in cases {
        let error = pinned(&format!("{name}:{tag}")).await.expect_err(tag);
        assert!(fits(&error) && error.to_string().contains(text), "{tag}: {error:?} {error}");
    }
    let other = pinned(&format!("{name}@{one}")).await.expect_err("other bytes");
    assert!(matches!(other, FetchError::Mismatch { .. }), "{other}");
}
