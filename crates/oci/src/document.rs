//! The JSON documents of an image: index, manifest and configuration.
//!
//! Both families of media types in use are read: OCI's and Docker's schema 2. Unknown keys are left
//! alone, as the specification demands; what matters here is checked.

use serde::{Deserialize, Serialize};
use types::{Digest, limits};

/// Something named by its digest and size.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// What it hashes to.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    #[serde(default)]
    pub(crate) platform: Option<PlatformEntry>,
    #[serde(default)]
    pub(crate) annotations: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct PlatformEntry {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: Option<String>,
}

/// An operating system and a processor, in the words of image indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Always `linux` so far.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
}

impl Platform {
    /// What this machine runs.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { os: "linux".into(), architecture: architecture.into() }
    }

    /// Whether an image that says this of itself can run; one that says nothing may.
    pub fn runs(&self, os: &str, architecture: &str) -> bool {
        (os.is_empty() || os == self.os) && (architecture.is_empty() || architecture == self.architecture)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// The manifest of one image for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageManifest {
    /// The image's configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

impl ImageManifest {
    /// Reads the bytes of a manifest that was fetched before; the error says what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        match Document::parse(bytes)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err("it is an index of images".into()),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: Option<u32>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<RawEntry>>,
}

/// An entry of an index may be hashed in ways we do not know; only what is chosen must be readable.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawEntry {
    Known(Descriptor),
    Other(serde::de::IgnoredAny),
}

/// What a reference can lead to.
pub(crate) enum Document {
    Manifest(ImageManifest),
    Index(Vec<Descriptor>),
}

const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

const LAYERS: [&str; 8] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar",
];

/// The media types of what [`Document::parse`] reads.
pub(crate) const DOCUMENTS: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

impl Document {
    /// Reads a manifest or an index; the error says what is wrong.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let raw: RawDocument =
            serde_json::from_slice(bytes).map_err(|error| format!("it is no manifest: {error}"))?;
        if raw.schema_version != Some(2) {
            return Err("it is not of schema version 2; push it again with a current tool".into());
        }
        if let Some(kind) = raw.media_type.as_deref().filter(|kind| !DOCUMENTS.contains(kind)) {
            return Err(format!("its media type is {kind:?}, which is no image"));
        }
        match (raw.config, raw.layers, raw.manifests) {
            (Some(config), Some(layers), None) => manifest(config, layers).map(Self::Manifest),
            (None, None, Some(entries)) => Ok(Self::Index(
                entries
                    .into_iter()
                    .filter_map(|entry| match entry {
                        RawEntry::Known(descriptor) => Some(descriptor),
                        RawEntry::Other(_) => None,
                    })
                    .collect(),
            )),
            // A document that can be read both ways means different images to different readers.
            _ => Err("it is neither a manifest nor an index".into()),
        }
    }
}

fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Result<ImageManifest, String> {
    if !CONFIGS.contains(&config.media_type.as_str()) {
        return Err(format!("it is an artifact ({}), not a container image", config.media_type));
    }
    if config.size > limits::IMAGE_DOCUMENT.bytes() {
        return Err(format!("its configuration has more than {}", limits::IMAGE_DOCUMENT));
    }
    if layers.len() > limits::IMAGE_LAYERS {
        return Err(format!("it has {} layers; at most {} are taken", layers.len(), limits::IMAGE_LAYERS));
    }
    let mut total = 0u64;
    for layer in &layers {
        if !LAYERS.contains(&layer.media_type.as_str()) {
            return Err(format!("a layer is of the unknown kind {:?}", layer.media_type));
        }
        if layer.size > limits::IMAGE_LAYER.bytes() {
            return Err(format!("a layer has more than {}", limits::IMAGE_LAYER));
        }
        total = total.saturating_add(layer.size);
    }
    if total > limits::IMAGE_UNPACKED.bytes() {
        return Err(format!("its layers have more than {}", limits::IMAGE_UNPACKED));
    }
    Ok(ImageManifest { config, layers })
}

/// The entry of an index that a platform runs. A variant-less one is preferred, then the first.
pub(crate) fn choose<'a>(entries: &'a [Descriptor], platform: &Platform) -> Option<&'a Descriptor> {
    let runs = |entry: &&Descriptor| {
        entry
            .platform
            .as_ref()
            .is_some_and(|p| p.os == platform.os && p.architecture == platform.architecture)
    };
    let plain = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|p| p.variant.is_none());
    let first = entries.iter().filter(runs).find(plain).or_else(|| entries.iter().find(runs));
    first.or(match entries {
        // An index that does not say what its only image is for leaves that to the configuration.
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    })
}

/// What an image says about how it wants to be run, and what its layers unpack to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// The beginning of the command.
    pub entrypoint: Vec<String>,
    /// The rest of it.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where the command starts; empty means `/`.
    pub working_dir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty means root.
    pub user: String,
    /// The signal that asks it to stop, as `SIGTERM` or a number, if it is another than usual.
    pub stop_signal: Option<String>,
    /// What each layer hashes to once it is decompressed, lowest first.
    pub diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    config: Option<RawRun>,
    rootfs: RawRoot,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
}

#[derive(Deserialize)]
struct RawRoot {
    diff_ids: Option<Vec<Digest>>,
}

impl ImageConfig {
    /// Reads a configuration for an image of so many layers, to be run on `platform`; the error
    /// says what is wrong.
    pub fn parse(bytes: &[u8], layers: usize, platform: &Platform) -> Result<Self, String> {
        let raw: RawConfig = serde_json::from_slice(bytes)
            .map_err(|error| format!("its configuration cannot be read: {error}"))?;
        if !platform.runs(&raw.os, &raw.architecture) {
            return Err(format!("it is for {}/{} and this is {platform}", raw.os, raw.architecture));
        }
        let diff_ids = raw.rootfs.diff_ids.unwrap_or_default();
        if diff_ids.len() != layers {
            return Err(format!("its configuration knows {} layers, its manifest {layers}", diff_ids.len()));
        }
        let run = raw.config.unwrap_or_default();
        Ok(Self {
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            env: run.env.unwrap_or_default(),
            working_dir: run.working_dir.unwrap_or_default(),
            user: run.user.unwrap_or_default(),
            stop_signal: run.stop_signal.filter(|signal| !signal.is_empty()),
            diff_ids,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn descriptor(kind: &str, size: u64) -> serde_json::Value {
        json!({"mediaType": kind, "digest": format!("sha256:{}", "0".repeat(64)), "size": size})
    }

    fn refusal(document: serde_json::Value) -> String {
        match Document::parse(document.to_string().as_bytes()) {
            Err(why) => why,
            Ok(_) => panic!("taken: {document}"),
        }
    }

    #[test]
    fn what_is_no_image_or_too_much_is_refused_with_the_reason() {
        let config = || descriptor(CONFIGS[0], 10);
        let layer = |size| descriptor(LAYERS[1], size);
        let with = |layers: Vec<_>| json!({"schemaVersion": 2, "config": config(), "layers": layers});
        assert!(Document::parse(with(vec![layer(5)]).to_string().as_bytes()).is_ok());
        assert!(refusal(with(vec![layer(5); 129])).contains("129 layers"));
        assert!(refusal(with(vec![layer((8 << 30) + 1)])).contains("a layer has more than 8Gi"));
        assert!(refusal(with(vec![layer(8 << 30); 3])).contains("more than 16Gi"));
        assert!(refusal(with(vec![descriptor("application/x-wasm", 1)])).contains("unknown kind"));
        assert!(refusal(json!({"schemaVersion": 1})).contains("schema version 2"));
        let artifact =
            json!({"schemaVersion": 2, "config": descriptor("application/x-helm", 1), "layers": []});
        assert!(refusal(artifact).contains("artifact"));
        let both = json!({"schemaVersion": 2, "config": config(), "layers": [], "manifests": []});
        assert!(refusal(both).contains("neither"));
        assert!(refusal(json!([])).contains("no manifest"));
        let huge = json!({"schemaVersion": 2, "config": descriptor(CONFIGS[0], (4 << 20) + 1), "layers": []});
        assert!(refusal(huge).contains("4Mi"));
    }

    #[test]
    fn an_index_gives_the_image_of_the_platform_and_never_an_attestation() {
        let entry = |os: &str, architecture: &str, digit: &str| {
            json!({"digest": format!("sha256:{}", digit.repeat(64)), "size": 1,
                   "platform": {"os": os, "architecture": architecture}})
        };
        let index = json!({"schemaVersion": 2, "manifests": [
            {"digest": "sha512:abc", "size": 1}, entry("unknown", "unknown", "1"),
            entry("linux", "arm64", "2"), entry("linux", "amd64", "3")]});
        let Ok(Document::Index(entries)) = Document::parse(index.to_string().as_bytes()) else {
            panic!("an index")
        };
        let amd64 = Platform { os: "linux".into(), architecture: "amd64".into() };
        assert_eq!(choose(&entries, &amd64).map(|chosen| chosen.digest.hex().starts_with('3')), Some(true));
        let riscv = Platform { os: "linux".into(), architecture: "riscv64".into() };
        assert_eq!(choose(&entries, &riscv), None);
    }

    #[test]
    fn a_configuration_must_fit_its_manifest_and_this_machine() {
        let text =
            json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"Cmd": ["/a"], "Entrypoint": null, "User": "7:8", "Env": ["A=b"], "StopSignal": ""}})
            .to_string();
        let amd64 = Platform { os: "linux".into(), architecture: "amd64".into() };
        let config = ImageConfig::parse(text.as_bytes(), 0, &amd64).expect("valid");
        assert_eq!(
            (config.cmd, config.user.as_str(), config.stop_signal),
            (vec!["/a".to_owned()], "7:8", None)
        );
        assert!(ImageConfig::parse(text.as_bytes(), 1, &amd64).expect_err("layers").contains("0 layers"));
        let arm = Platform { os: "linux".into(), architecture: "arm64".into() };
        assert!(ImageConfig::parse(text.as_bytes(), 0, &arm).expect_err("platform").contains("linux/arm64"));
    }
}
