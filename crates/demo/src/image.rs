//! OCI images made on the spot with `umoci`: the static demo server, its certificate, a version.

use crate::{Authority, Failure, Outcome};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Runs a program to its end.
///
/// # Errors
/// It cannot be started or says no; with what it printed.
pub fn run(command: &mut Command) -> Outcome<String> {
    let what = format!("{command:?}");
    let output = command.output().map_err(|error| Failure::new(&what, error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::new(what, String::from_utf8_lossy(&output.stderr).trim()))
}

/// How an image misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// It serves.
    Sound,
    /// It ends at start with code 1.
    Exits,
    /// It serves, but never says that it is ready.
    Unready,
}

/// One tag to make.
pub struct Recipe<'a> {
    /// The version it reports, and the tag.
    pub version: &'a str,
    /// How it behaves.
    pub temper: Temper,
}

/// Where `make app` leaves the statically linked server.
///
/// # Errors
/// It is not there; with what to run.
pub fn demo_app() -> Outcome<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/static");
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let path = root.join(host).join("debug/demo-app");
    if path.exists() {
        Ok(path)
    } else {
        Err(Failure("the demo's server is not built; run: make app".into()))
    }
}

/// Makes an OCI layout in `folder` with one tag for each recipe. The certificate is for `hosts`.
///
/// # Errors
/// `umoci` is missing or fails.
pub fn build(folder: &Path, authority: &Authority, hosts: &[&str], recipes: &[Recipe<'_>]) -> Outcome {
    let app = demo_app()?;
    let layout = folder.display().to_string();
    let staging = folder.with_extension("staging");
    let settings = staging.join("etc-demo");
    fs::create_dir_all(&settings).map_err(|error| Failure::new("make the image's folder", error))?;
    // The image's user is not the one who builds it, whatever that one's umask is.
    readable(&settings, 0o755)?;
    authority.write_leaf(hosts, &settings)?;
    umoci(&["init", "--layout", &layout])?;
    let base = format!("{layout}:base");
    umoci(&["new", "--image", &base])?;
    umoci(&["insert", "--image", &base, &app.display().to_string(), "/demo-app"])?;
    umoci(&["config", "--image", &base, "--config.cmd", "/demo-app", "--config.user", "1000:1000"])?;
    for recipe in recipes {
        let broken = match recipe.temper {
            Temper::Sound => None,
            Temper::Exits => Some("exit"),
            Temper::Unready => Some("unready"),
        };
        let files = [("version", Some(recipe.version)), ("broken", broken)];
        for (name, text) in files {
            let path = settings.join(name);
            let written = match text {
                Some(text) => fs::write(&path, text),
                None => fs::remove_file(&path).or(Ok(())),
            };
            written.map_err(|error| Failure::new(format!("write {}", path.display()), error))?;
            if text.is_some() {
                readable(&path, 0o644)?;
            }
        }
        let (tag, source) = (recipe.version, settings.display().to_string());
        umoci(&["tag", "--image", &base, tag])?;
        umoci(&["insert", "--image", &format!("{layout}:{tag}"), &source, "/etc/demo"])?;
    }
    fs::remove_dir_all(&staging).map_err(|error| Failure::new("remove the image's folder", error))
}

fn readable(path: &Path, mode: u32) -> Outcome {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| Failure::new(format!("make {} readable", path.display()), error))
}

fn umoci(arguments: &[&str]) -> Outcome {
    run(Command::new("umoci").args(arguments)).map(drop)
}
