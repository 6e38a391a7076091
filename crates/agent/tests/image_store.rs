//! The image store on real parts: a registry that is pushed to and killed, layouts, small disks,
//! and what a crash may leave behind.

#[path = "../../oci/tests/kit/mod.rs"]
mod kit;

use holdfast_agent::image::{ImageError, ImageStore};
use kit::{Answer, Fake, Layer, Layout, Registry, digest};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use types::{
    Digest,
    plan::{PinnedImage, Reason},
};

struct Bench {
    dir: tempfile::TempDir,
    layout: Layout,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::new(dir.path().join("layout"));
        Self { dir, layout }
    }

    fn images(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    fn store(&self) -> ImageStore {
        ImageStore::open(&self.images()).expect("opened")
    }

    fn root(&self, digest: &Digest) -> PathBuf {
        self.images().join("roots").join(digest.hex())
    }
}

fn pin(reference: impl Into<String>, digest: &Digest) -> PinnedImage {
    PinnedImage { reference: reference.into(), digest: digest.clone() }
}

fn text(root: &Path, name: &str) -> String {
    fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Two layers: the upper replaces a file and removes another.
fn two_layers() -> [Layer; 2] {
    [
        Layer::files(&[("etc/a", "lower"), ("etc/b", "lower")]),
        Layer::files(&[("etc/a", "upper"), ("etc/.wh.b", ""), ("new", "upper")]),
    ]
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("readable");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
}

#[tokio::test]
async fn an_image_is_pulled_by_digest_and_kept() {
    let mut bench = Bench::new();
    let wanted = bench.layout.image("1", &two_layers());
    let registry = Registry::start(bench.dir.path());
    let image = pin(registry.push(&bench.layout, "1", "shop"), &wanted);
    let store = bench.store();
    assert!(store.cached(&wanted).is_none());
    let found = store.ensure(&image).await.expect("pulled");
    assert_eq!((text(&found.root, "etc/a"), text(&found.root, "new")), ("upper".into(), "upper".into()));
    assert!(!found.root.join("etc/b").exists());
    let config = &found.config;
    assert_eq!(
        (config.entrypoint.as_slice(), config.cmd.as_slice()),
        (&["/bin/app".into()][..], &["serve".into()][..])
    );
    assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("1000:1000", "/srv"));
    assert_eq!(
        (config.env.as_slice(), config.stop_signal.as_deref()),
        (&["A=b".into()][..], Some("SIGQUIT"))
    );
    assert!(Arc::ptr_eq(&found, &store.ensure(&image).await.expect("cached")));
    assert!(names(&bench.images().join("tmp")).is_empty(), "nothing half made is left");
}

#[tokio::test]
async fn fm_k_cached_image_needs_no_registry() {
    let mut bench = Bench::new();
    let (first, second) = (bench.layout.image("1", &two_layers()), bench.layout.image("2", &[]));
    let mut registry = Registry::start(bench.dir.path());
    let one = pin(registry.push(&bench.layout, "1", "shop"), &first);
    let two = pin(registry.push(&bench.layout, "2", "shop"), &second);
    let store = bench.store();
    store.ensure(&one).await.expect("pulled");
    registry.kill();
    store.ensure(&one).await.expect("from the cache");
    // Also after a restart, by another reference to the same digest, and from blobs alone.
    let again = bench.store();
    assert_eq!(again.cached(&first).expect("still there").config.user, "1000:1000");
    again.ensure(&pin("registry.invalid/other:9", &first)).await.expect("the digest is what counts");
    fs::remove_dir_all(bench.root(&first)).expect("removed by hand");
    assert_eq!(text(&again.ensure(&one).await.expect("unpacked anew").root, "etc/a"), "upper");
    let error = again.ensure(&two).await.expect_err("was never pulled");
    assert_eq!(error.reason(), Reason::ImageUnavailable);
    for part in [&two.reference, second.as_str(), "tried again", "cannot be reached"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn an_image_comes_from_a_layout_too() {
    let mut bench = Bench::new();
    let wanted = bench.layout.image("1", &two_layers());
    let found = bench.store().ensure(&pin(bench.layout.reference("1"), &wanted)).await.expect("read");
    assert_eq!(text(&found.root, "new"), "upper");
    let missing = digest(b"nothing");
    let error =
        bench.store().ensure(&pin(bench.layout.reference("1"), &missing)).await.expect_err("not there");
    assert_eq!(error.reason(), Reason::ImageNotFound);
    let error = bench.store().ensure(&pin("oci:/nowhere/at/all", &missing)).await.expect_err("not there");
    assert_eq!(error.reason(), Reason::ImageNotFound, "{error}");
}

#[tokio::test]
async fn a_registry_without_the_image_says_so() {
    let mut bench = Bench::new();
    let there = bench.layout.image("1", &[]);
    let registry = Registry::start(bench.dir.path());
    let reference = registry.push(&bench.layout, "1", "shop");
    let store = bench.store();
    store.ensure(&pin(&reference, &there)).await.expect("there");
    let missing = digest(b"never pushed");
    let error = store.ensure(&pin(&reference, &missing)).await.expect_err("missing");
    assert_eq!(error.reason(), Reason::ImageNotFound);
    assert!(error.to_string().contains(missing.as_str()) && error.to_string().contains("push it"), "{error}");
}

#[tokio::test]
async fn false_bytes_are_refused_and_nothing_is_left() {
    let mut bench = Bench::new();
    let layers = two_layers();
    let (upper, upper_size) = (digest(&layers[1].packed), layers[1].packed.len());
    let wanted = bench.layout.image("1", &layers);
    type Spoil = fn(Vec<u8>) -> Answer;
    let cases: [(&str, Spoil, Reason); 6] = [
        (
            "flipped",
            |mut bytes| {
                bytes[20] ^= 1;
                Answer::Bytes(bytes)
            },
            Reason::ImageInvalid,
        ),
        (
            "longer",
            |mut bytes| {
                bytes.push(0);
                Answer::Bytes(bytes)
            },
            Reason::ImageInvalid,
        ),
        (
            "shorter",
            |mut bytes| {
                bytes.pop();
                Answer::Bytes(bytes)
            },
            Reason::ImageInvalid,
        ),
        ("endless", Answer::Endless, Reason::ImageInvalid),
        ("cut", Answer::Cut, Reason::ImageUnavailable),
        ("gone", |_| Answer::Status("404 Not Found"), Reason::ImageNotFound),
    ];
    assert!(upper_size > 20);
    for spoiled in [wanted.clone(), upper] {
        for (name, spoil, reason) in cases {
            let (blobs, spoiled_now) = (bench.layout.path.join("blobs/sha256"), spoiled.clone());
            let fake = Fake::start(move |path| {
                let hex = path.rsplit(':').next().expect("a digest");
                let bytes = fs::read(blobs.join(hex)).expect("known");
                if hex == spoiled_now.hex() { spoil(bytes) } else { Answer::Bytes(bytes) }
            });
            let images = bench.dir.path().join(format!("images-{name}"));
            let store = ImageStore::open(&images).expect("opened");
            let reference = format!("127.0.0.1:{}/shop:1", fake.port);
            let error = store.ensure(&pin(reference, &wanted)).await.expect_err(name);
            assert_eq!(error.reason(), reason, "{name}: {error}");
            assert!(
                names(&images.join("tmp")).is_empty() && names(&images.join("roots")).is_empty(),
                "{name}"
            );
            assert!(
                !images.join("blobs/sha256").join(spoiled.hex()).exists(),
                "{name}: a false blob was kept"
            );
            fs::remove_dir_all(images).expect("removed");
        }
    }
}

#[tokio::test]
async fn a_layer_that_is_not_what_the_configuration_says_is_refused() {
    let mut bench = Bench::new();
    let mut layer = Layer::files(&[("a", "1")]);
    layer.diff_id = digest(b"something else");
    let wanted = bench.layout.image("1", &[layer]);
    let other = bench.layout.image_for("other", &[], "riscv64");
    let store = bench.store();
    let error = store.ensure(&pin(bench.layout.reference("1"), &wanted)).await.expect_err("a false diff_id");
    assert_eq!(error.reason(), Reason::ImageInvalid);
    assert!(
        error.to_string().contains("layer 1") && error.to_string().contains("configuration says"),
        "{error}"
    );
    let error =
        store.ensure(&pin(bench.layout.reference("other"), &other)).await.expect_err("another platform");
    assert!(error.to_string().contains("linux/riscv64"), "{error}");
    assert_eq!(error.reason(), Reason::ImageInvalid);
}

#[tokio::test]
async fn an_archive_that_escapes_is_refused_as_an_image() {
    let mut bench = Bench::new();
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..8].copy_from_slice(b"../../x\0");
    header.set_size(0);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    let wanted = bench.layout.image("1", &[Layer::gzip(header.as_bytes())]);
    let error =
        bench.store().ensure(&pin(bench.layout.reference("1"), &wanted)).await.expect_err("it escapes");
    assert_eq!(error.reason(), Reason::ImageInvalid);
    assert!(error.to_string().contains("leave the image's root"), "{error}");
    assert!(!bench.images().join("x").exists() && !bench.dir.path().join("x").exists());
}

#[tokio::test]
async fn many_who_want_the_same_image_cause_one_pull() {
    let mut bench = Bench::new();
    let wanted = bench.layout.image("1", &two_layers());
    let blobs = bench.layout.path.join("blobs/sha256");
    let fake = Fake::start(move |path| {
        let hex = path.rsplit(':').next().expect("a digest");
        Answer::Bytes(fs::read(blobs.join(hex)).expect("known"))
    });
    let (store, image) = (bench.store(), pin(format!("127.0.0.1:{}/shop:1", fake.port), &wanted));
    let all: Vec<_> = (0..32)
        .map(|_| {
            let (store, image) = (store.clone(), image.clone());
            tokio::spawn(async move { store.ensure(&image).await })
        })
        .collect();
    let first = store.ensure(&image).await.expect("pulled");
    for each in all {
        assert!(Arc::ptr_eq(&first, &each.await.expect("not cancelled").expect("pulled")));
    }
    assert_eq!(fake.asked(), 4, "a manifest, a configuration and two layers");
}

#[tokio::test]
async fn what_a_crash_left_half_made_is_never_used() {
    let mut bench = Bench::new();
    let wanted = bench.layout.image("1", &two_layers());
    let image = pin(bench.layout.reference("1"), &wanted);
    bench.store().ensure(&image).await.expect("read");
    let (root, marker) = (bench.root(&wanted), bench.root(&wanted).join("complete"));
    let whole = fs::read(&marker).expect("marked");
    // Each of these is what some moment of a power cut, or a damaged disk, could leave.
    let damages: [(&str, &[u8]); 4] = [
        ("no marker", b""),
        ("half a marker", &whole[..whole.len() / 2]),
        ("another version", b"{\"version\":2}"),
        ("no files", &whole),
    ];
    for (name, bytes) in damages {
        match name {
            "no marker" => fs::remove_file(&marker).expect("removed"),
            _ => fs::write(&marker, bytes).expect("written"),
        }
        if name == "no files" {
            fs::remove_dir_all(root.join("rootfs")).expect("removed");
        } else {
            fs::write(root.join("rootfs/etc/a"), "half").expect("written");
        }
        fs::create_dir_all(bench.images().join("tmp/root-0/rootfs/half")).expect("made");
        fs::write(bench.images().join("tmp/blob-0"), "half").expect("written");
        let store = bench.store();
        assert!(store.cached(&wanted).is_none(), "{name}");
        assert!(names(&bench.images().join("tmp")).is_empty(), "{name}");
        let found = store.ensure(&image).await.expect("made anew");
        assert_eq!(text(&found.root, "etc/a"), "upper", "{name}");
    }
    // A damaged blob is noticed and fetched again.
    for blob in names(&bench.images().join("blobs/sha256")) {
        fs::write(bench.images().join("blobs/sha256").join(blob), "damaged").expect("written");
    }
    fs::remove_file(&marker).expect("removed");
    assert_eq!(text(&bench.store().ensure(&image).await.expect("fetched again").root, "etc/a"), "upper");
}

/// A disk of a few megabytes.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf, options: &std::ffi::CStr) -> Self {
        fs::create_dir_all(&path).expect("made");
        rustix::mount::mount("tmpfs", &path, "tmpfs", rustix::mount::MountFlags::empty(), options)
            .expect("a tmpfs can be mounted: run as root");
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _best_effort = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_what_nobody_uses_makes_space() {
    let mut bench = Bench::new();
    let mut noise = 1u32;
    let mut big = |megabytes: usize| -> String {
        // Text that does not compress: the layer takes its size twice, packed and unpacked.
        let next = |noise: &mut u32| {
            *noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *noise >> 24
        };
        (0..megabytes << 20).map(|_| char::from(b' ' + (next(&mut noise) % 94) as u8)).collect()
    };
    let mut image = |bench: &mut Bench, tag: &str, size| {
        let digest = bench.layout.image(tag, &[Layer::files(&[("big", &big(size))])]);
        pin(bench.layout.reference(tag), &digest)
    };
    let (one, two, three) = (image(&mut bench, "1", 2), image(&mut bench, "2", 2), image(&mut bench, "3", 4));
    let _disk = SmallDisk::mount(bench.images(), c"size=12m");
    let store = bench.store();
    let held = store.ensure(&one).await.expect("fits");
    drop(store.ensure(&two).await.expect("fits"));
    let error = store.ensure(&three).await.expect_err("does not fit");
    assert_eq!(error.reason(), Reason::DiskFull, "{error}");
    assert!(
        matches!(error, ImageError::DiskFull { .. }) && error.to_string().contains("make space"),
        "{error}"
    );
    assert!(names(&bench.images().join("tmp")).is_empty(), "what did not fit was given back");
    // A disk this small is always short, so all that may go does: not what is kept, not what is held.
    let freed = store.evict_unused(&BTreeSet::from([two.digest.clone()])).expect("evicted");
    assert!(freed.bytes() > 3 << 20, "{freed}");
    assert!(store.cached(&one.digest).is_some() && store.cached(&two.digest).is_some());
    let freed = store.evict_unused(&BTreeSet::new()).expect("evicted");
    assert!(freed.bytes() >= 2 << 20, "{freed}");
    assert!(store.cached(&two.digest).is_none() && !bench.root(&two.digest).exists());
    assert_eq!(text(&held.root, "big").len(), 2 << 20);
    drop(held);
    store.evict_unused(&BTreeSet::new()).expect("evicted");
    store.ensure(&three).await.expect("fits now");
}
