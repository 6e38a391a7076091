//! The demo's images and registry, without Holdfast: if these fail, look here first.

use demo::{
    Authority, Registry, get_plain,
    image::{Recipe, Temper, build},
};
use std::{fs, time::Duration};

#[test]
fn an_image_is_built_pushed_and_found() {
    let dir = std::env::temp_dir().join(format!("holdfast-image-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a folder");
    let recipes =
        [Recipe { version: "v1", temper: Temper::Sound }, Recipe { version: "v3", temper: Temper::Exits }];
    let authority = Authority::new().expect("an authority");
    build(&dir.join("image"), &authority, &["demo.example"], &recipes).expect("an image");
    let mut registry = Registry::start(&dir).expect("a registry");
    for tag in ["v1", "v3"] {
        let reference = registry.push(&dir.join("image"), tag, "demo").expect("a push");
        assert_eq!(reference, format!("{}/demo:{tag}", registry.address()));
    }
    let tags =
        get_plain(&registry.address(), "/v2/demo/tags/list", Duration::from_secs(5)).expect("an answer");
    let tags = String::from_utf8_lossy(&tags.body).into_owned();
    assert!(tags.contains("\"v1\"") && tags.contains("\"v3\""), "{tags}");
    registry.kill_hard();
    assert!(get_plain(&registry.address(), "/v2/", Duration::from_secs(1)).is_err());
    fs::remove_dir_all(&dir).expect("a folder of our own");
}
