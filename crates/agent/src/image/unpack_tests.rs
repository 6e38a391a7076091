//! Archives that mean harm, and archives that mean well in unusual ways.

use super::{
    error::Trouble,
    stream::Budget,
    tree::Tree,
    unpack::{self, Position},
};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Seek, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    time::{Duration, Instant},
};
use types::{Digest, limits};

/// A directory with a root to unpack into and things beside it that must stay as they are.
struct Bench {
    dir: tempfile::TempDir,
}

const OUTSIDE: &str = "untouched";

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("outside/deep")).expect("made");
        for name in ["outside/file", "outside/deep/file", "file"] {
            fs::write(dir.path().join(name), OUTSIDE).expect("written");
        }
        fs::create_dir(dir.path().join("root")).expect("made");
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Unpacks layers, lowest first, and checks that nothing beside the root has changed.
    fn unpack(&self, layers: &[Vec<u8>]) -> Result<(), Trouble> {
        self.unpack_within(layers, Duration::from_secs(60))
    }

    fn unpack_within(&self, layers: &[Vec<u8>], time: Duration) -> Result<(), Trouble> {
        let before = self.outside();
        let mut tree = Tree::open(&self.root())?;
        let mut budget = Budget::new(Instant::now() + time);
        let mut done = Ok(());
        for (number, layer) in layers.iter().enumerate() {
            let position = if number == 0 { Position::Lowest } else { Position::Above };
            let mut blob = blob(layer);
            done = unpack::layer(&mut tree, &mut blob, &digest(layer), position, &mut budget);
            if done.is_err() {
                break;
            }
        }
        assert_eq!(before, self.outside(), "something outside the root has changed");
        done
    }

    /// Everything beside the root: kind, mode, links, size and content of each.
    fn outside(&self) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
        let mut seen = BTreeMap::new();
        let mut todo = vec![self.dir.path().to_owned()];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(&dir).expect("readable") {
                let path = entry.expect("an entry").path();
                if path == self.root() {
                    continue;
                }
                let meta = fs::symlink_metadata(&path).expect("there");
                let links = if meta.is_dir() { 0 } else { meta.nlink() };
                let content = if meta.is_file() { fs::read(&path).expect("readable") } else { Vec::new() };
                if meta.is_dir() {
                    todo.push(path.clone());
                }
                seen.insert(path, (meta.mode(), links, content));
            }
        }
        seen
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.root().join(path)).is_ok()
    }

    fn refusal(&self, layers: &[Vec<u8>]) -> String {
        match self.unpack(layers) {
            Err(Trouble::Image(why)) => why,
            other => panic!("{other:?} instead of a refusal of the image"),
        }
    }
}

fn blob(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    file.rewind().expect("rewound");
    file
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// One member with any name whatever; the usual writers refuse the ones that matter here.
fn member(kind: u8, path: &str, link: &str, body: &[u8]) -> Vec<u8> {
    sized(kind, path, link, body, body.len() as u64)
}

fn sized(kind: u8, path: &str, link: &str, body: &[u8], size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for (text, long) in [(path, b'L'), (link, b'K')] {
        if text.len() > 100 {
            out.extend(sized(long, "././@LongLink", "", text.as_bytes(), text.len() as u64));
        }
    }
    let mut header = tar::Header::new_gnu();
    let old = header.as_old_mut();
    for (field, text) in [(&mut old.name, path), (&mut old.linkname, link)] {
        let count = text.len().min(100);
        field[..count].copy_from_slice(&text.as_bytes()[..count]);
    }
    header.as_old_mut().linkflag = [kind];
    header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(size);
    header.set_cksum();
    out.extend(header.as_bytes());
    out.extend(body);
    out.extend(vec![0; (512 - body.len() % 512) % 512]);
    out
}

fn file(path: &str, body: &str) -> Vec<u8> {
    member(b'0', path, "", body.as_bytes())
}

fn dir(path: &str) -> Vec<u8> {
    member(b'5', path, "", b"")
}

fn symlink(path: &str, to: &str) -> Vec<u8> {
    member(b'2', path, to, b"")
}

fn hard_link(path: &str, to: &str) -> Vec<u8> {
    member(b'1', path, to, b"")
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    let mut out = members.concat();
    out.extend([0; 1024]);
    out
}

#[test]
fn a_name_with_dots_is_refused() {
    for name in ["../x", "a/../../x", "..", "a/..", "/../x", "./../outside/file"] {
        let why = Bench::new().refusal(&[archive(&[file(name, "evil")])]);
        assert!(why.contains("would leave the image's root"), "{name}: {why}");
    }
}

#[test]
fn an_absolute_name_is_one_below_the_root() {
    let bench = Bench::new();
    let name = format!("{}/outside/file", bench.dir.path().display());
    bench.unpack(&[archive(&[file(&name, "evil"), file("/x", "y")])]).expect("unpacked");
    assert_eq!(bench.read("x"), "y");
    assert_eq!(bench.read(&name[1..]), "evil");
}

#[test]
fn a_link_does_not_lead_outside() {
    let bench = Bench::new();
    let outside = bench.dir.path().join("outside").display().to_string();
    let members = [
        symlink("up", "../outside"),
        file("up/file", "evil"),
        symlink("abs", &outside),
        file("abs/file", "evil"),
        symlink("many", "../../../../../../../../../../.."),
        file("many/new", "evil"),
    ];
    bench.unpack(&[archive(&members)]).expect("all of it stays inside");
    assert_eq!(bench.read("outside/file"), "evil");
    assert_eq!(bench.read("new"), "evil");
    // The file behind a link is not written through it: the link itself is replaced.
    let bench = Bench::new();
    bench.unpack(&[archive(&[symlink("l", "../file"), file("l", "evil")])]).expect("unpacked");
    assert_eq!(bench.read("l"), "evil");
}

#[test]
fn links_that_go_round_are_refused() {
    let why = Bench::new().refusal(&[archive(&[symlink("a", "b"), symlink("b", "a"), file("a/x", "")])]);
    assert!(why.contains("goes through"), "{why}");
    let why = Bench::new().refusal(&[archive(&[file("a", ""), file("a/x", "")])]);
    assert!(why.contains("goes through"), "{why}");
}

#[test]
fn a_hard_link_stays_inside() {
    let bench = Bench::new();
    let outside = bench.dir.path().join("outside").display().to_string();
    for (name, members) in [
        ("dots", vec![hard_link("h", "../outside/file")]),
        ("absolute", vec![hard_link("h", &format!("{outside}/file"))]),
        ("through a link", vec![symlink("l", "../outside"), hard_link("h", "l/file")]),
        ("a directory", vec![dir("d"), hard_link("h", "d")]),
        ("nothing", vec![hard_link("h", "nothing")]),
        ("itself", vec![hard_link("h", "h")]),
    ] {
        let why = Bench::new().refusal(&[archive(&members)]);
        assert!(why.contains("hard link") || why.contains("leave the image's root"), "{name}: {why}");
    }
    // The link itself gets a second name; writing to it replaces it.
    let link = format!("{outside}/file");
    bench
        .unpack(&[archive(&[symlink("l", &link), hard_link("h", "l"), file("h", "evil")])])
        .expect("unpacked");
    assert_eq!(bench.read("h"), "evil");
}

#[test]
fn hard_links_share_their_file_also_across_layers() {
    let bench = Bench::new();
    let upper = archive(&[hard_link("c", "a"), hard_link("a", "./a"), file("b", "other")]);
    bench.unpack(&[archive(&[file("a", "same"), hard_link("b", "a")]), upper]).expect("unpacked");
    assert_eq!(
        (bench.read("a"), bench.read("c"), bench.read("b")),
        ("same".into(), "same".into(), "other".into())
    );
    let inode = |name| fs::metadata(bench.root().join(name)).expect("there").ino();
    assert_eq!(inode("a"), inode("c"));
    assert_ne!(inode("a"), inode("b"));
}

#[test]
fn whiteouts_remove_from_lower_layers_only() {
    let bench = Bench::new();
    let lower = archive(&[
        file("d/old", ""),
        file("d/sub/old", ""),
        file("gone", ""),
        file("tree/x/y", ""),
        file("kept", ""),
    ]);
    let upper = archive(&[
        // Before and after the opaque mark: both stay, since the mark speaks of what is below.
        file("d/new1", ""),
        file("d/.wh..wh..opq", ""),
        file("d/new2", ""),
        file(".wh.gone", ""),
        file(".wh.tree", ""),
        file("tree", "now a file"),
        file(".wh.kept", ""),
        file("kept", "anew"),
        file(".wh.never", ""),
        file("nowhere/.wh.x", ""),
        file(".wh..wh.plnk/1.2", ""),
    ]);
    bench.unpack(&[lower, upper]).expect("unpacked");
    for (path, there) in [
        ("d/old", false),
        ("d/sub", false),
        ("d/new1", true),
        ("d/new2", true),
        ("gone", false),
        ("nowhere", false),
        (".wh..wh.plnk", false),
        ("d/.wh..wh..opq", false),
        (".wh.gone", false),
    ] {
        assert_eq!(bench.has(path), there, "{path}");
    }
    assert_eq!((bench.read("tree").as_str(), bench.read("kept").as_str()), ("now a file", "anew"));
}

#[test]
fn whiteouts_do_not_reach_outside() {
    let bench = Bench::new();
    let outside = bench.dir.path().join("outside").display().to_string();
    let lower = archive(&[symlink("up", "../outside"), symlink("abs", &outside), symlink("self", "../file")]);
    let upper = archive(&[file("up/.wh.file", ""), file("abs/.wh..wh..opq", ""), file(".wh.self", "")]);
    bench.unpack(&[lower, upper]).expect("they find nothing to remove");
    assert!(!bench.has("self"));
    for name in [".wh.", ".wh...", ".wh.."] {
        let why = Bench::new().refusal(&[archive(&[]), archive(&[file(name, "")])]);
        assert!(why.contains("own entry"), "{name}: {why}");
    }
    let why = Bench::new().refusal(&[archive(&[]), archive(&[file("../.wh.file", "")])]);
    assert!(why.contains("would leave"), "{why}");
}

#[test]
fn the_usual_links_of_distributions_work() {
    let bench = Bench::new();
    let lower = archive(&[
        dir("usr/bin"),
        symlink("bin", "usr/bin"),
        symlink("var/run", "/run"),
        dir("d"),
        symlink("e", "d"),
    ]);
    let upper = archive(&[
        file("bin/sh", "shell"),
        file("var/run/pid", "1"),
        dir("d"),
        dir("e"),
        file("e/x", "in a real e"),
    ]);
    bench.unpack(&[lower, upper]).expect("unpacked");
    assert_eq!((bench.read("usr/bin/sh").as_str(), bench.read("run/pid").as_str()), ("shell", "1"));
    assert!(!bench.has("d/x"), "a directory in a layer replaces a link below it");
}

#[test]
fn owners_modes_and_times_are_kept_and_devices_left_out() {
    let bench = Bench::new();
    let mut header = tar::Header::new_gnu();
    header.set_path("su").expect("short");
    header.set_mode(0o4755);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1_000_000_000);
    header.set_size(0);
    header.set_cksum();
    let members = [
        header.as_bytes().to_vec(),
        member(b'3', "null", "", b""),
        member(b'4', "disk", "", b""),
        member(b'6', "pipe", "", b""),
        symlink("l", "nowhere"),
        dir("."),
    ];
    bench.unpack(&[archive(&members)]).expect("unpacked");
    let meta = fs::metadata(bench.root().join("su")).expect("there");
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime()), (0o4755, 7, 8, 1_000_000_000));
    assert!(!bench.has("null") && !bench.has("disk") && bench.has("pipe") && bench.has("l"));
    assert_eq!(fs::metadata(bench.root()).expect("there").permissions().mode() & 0o7777, 0o755);
}

#[test]
fn what_is_too_much_is_refused_before_it_is_written() {
    let bench = Bench::new();
    let why = bench.refusal(&[archive(&[sized(b'0', "huge", "", b"", limits::IMAGE_UNPACKED.bytes() + 1)])]);
    assert!(why.contains("16Gi"), "{why}");
    assert!(!bench.has("huge"));
    for (name, members) in [
        ("a sparse file", sized(b'S', "s", "", b"", 1 << 60)),
        ("a sparse file as pax", [pax("GNU.sparse.realsize", "9999999999999"), file("s", "")].concat()),
        ("a pax size", [pax("size", "99999999999999"), file("s", "")].concat()),
        ("a long name", sized(b'L', "n", "", b"", 1 << 33)),
        ("long pax", sized(b'x', "n", "", b"", 1 << 33)),
        ("a skipped device", sized(b'0', "n", "", b"", u64::MAX >> 1)),
        ("many headers", (0..20).flat_map(|_| pax("comment", "x")).collect()),
    ] {
        let why = Bench::new().refusal(&[archive(&[members])]);
        assert!(why.contains("sparse") || why.contains("16Gi") || why.contains("too"), "{name}: {why}");
    }
}

fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut total = rest + 1;
    while rest + total.to_string().len() != total {
        total = rest + total.to_string().len();
    }
    member(b'x', "pax", "", format!("{total} {key}={value}\n").as_bytes())
}

#[test]
fn too_deep_and_too_many_are_refused() {
    let deep = "d/".repeat(limits::IMAGE_DEPTH + 1);
    assert!(Bench::new().refusal(&[archive(&[dir(&deep)])]).contains("in one another"));
    // A link is no ladder to get deeper.
    let half = "d/".repeat(limits::IMAGE_DEPTH - 10);
    let ladder = archive(&[
        dir(&half),
        symlink("l", half.trim_end_matches('/')),
        file(&format!("l/{}x", "e/".repeat(20)), ""),
    ]);
    assert!(Bench::new().refusal(&[ladder]).contains("in one another"));
    assert!(Bench::new().refusal(&[archive(&[dir(&"d/".repeat(2500))])]).contains("is too long"));
    let part = "x".repeat(256);
    assert!(Bench::new().refusal(&[archive(&[file(&part, "")])]).contains("no file can have"));
    let mut budget = Budget::new(Instant::now() + Duration::from_secs(60));
    for _ in 0..limits::IMAGE_FILES {
        budget.file().expect("within the limit");
    }
    assert!(budget.file().expect_err("too many").to_string().contains("1000000 files"));
}

#[test]
fn compression_is_told_by_the_bytes_and_damage_is_refused() {
    let plain = archive(&[file("a", &"text ".repeat(1000)), file("b", "end")]);
    let gzip = |bytes: &[u8]| {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(bytes).expect("in memory");
        to.finish().expect("in memory")
    };
    let (front, back) = plain.split_at(700);
    let members = [gzip(front), gzip(back)].concat();
    let zstd = zstd::encode_all(plain.as_slice(), 1).expect("in memory");
    let unpack = |packed: &[u8], bench: &Bench| {
        let mut tree = Tree::open(&bench.root())?;
        let mut budget = Budget::new(Instant::now() + Duration::from_secs(60));
        unpack::layer(&mut tree, &mut blob(packed), &digest(&plain), Position::Lowest, &mut budget)
    };
    for packed in [&plain, &gzip(&plain), &members, &zstd] {
        let bench = Bench::new();
        unpack(packed, &bench).expect("unpacked");
        assert_eq!(bench.read("b"), "end");
    }
    for packed in [&gzip(&plain), &members, &zstd, &plain] {
        for cut in [1, packed.len() / 2, packed.len() - 1] {
            match unpack(&packed[..cut], &Bench::new()) {
                Err(Trouble::Image(_)) => {}
                other => panic!("{other:?} for {cut} of {} bytes", packed.len()),
            }
        }
    }
    let mut flipped = plain.clone();
    flipped[600] ^= 1;
    let why = unpack(&flipped, &Bench::new()).expect_err("another hash").to_string();
    assert!(why.contains("configuration says"), "{why}");
}

#[test]
fn a_pull_that_takes_too_long_stops_in_the_middle() {
    let bench = Bench::new();
    let late = bench.unpack_within(&[archive(&[file("a", "")])], Duration::ZERO);
    assert!(matches!(late, Err(Trouble::Broken(_))), "{late:?}");
}

fn some_path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "c"]),
        2 => prop::sample::select(vec!["..", ".", "", "file", "outside", "deep"]),
        1 => prop::sample::select(vec![".wh.a", ".wh.b", ".wh..wh..opq", ".wh.."]),
    ];
    (prop::bool::weighted(0.2), prop::collection::vec(part, 1..5))
        .prop_map(|(absolute, parts)| format!("{}{}", if absolute { "/" } else { "" }, parts.join("/")))
}

fn some_layer() -> impl Strategy<Value = Vec<(u8, String, String)>> {
    let kind = prop::sample::select(vec![b'0', b'0', b'1', b'1', b'2', b'2', b'2', b'3', b'5', b'5', b'6']);
    // Names without dots come often, or nearly every archive would end at its first member.
    let clean = some_path().prop_map(|path| path.replace("..", "a"));
    let name = prop_oneof![12 => clean, 1 => some_path()];
    let link = prop_oneof![
        4 => some_path(),
        1 => Just("BENCH/outside".to_owned()),
        1 => Just("BENCH/outside/file".to_owned()),
        1 => Just("../outside".to_owned()),
        1 => Just("/".to_owned()),
    ];
    prop::collection::vec((kind, name, link), 0..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever an archive holds, nothing beside the root changes; and if it is refused, the
    /// archive is blamed, not the disk. `Bench::unpack` compares everything outside.
    #[test]
    fn no_archive_changes_anything_outside_the_root(layers in prop::collection::vec(some_layer(), 1..4)) {
        let bench = Bench::new();
        let here = bench.dir.path().display().to_string();
        let layers: Vec<Vec<u8>> = layers
            .iter()
            .map(|layer| {
                let members: Vec<Vec<u8>> = layer
                    .iter()
                    .map(|(kind, name, link)| {
                        let body: &[u8] = if *kind == b'0' { b"evil" } else { b"" };
                        member(*kind, name, &link.replace("BENCH", &here), body)
                    })
                    .collect();
                archive(&members)
            })
            .collect();
        match bench.unpack(&layers) {
            Ok(()) | Err(Trouble::Image(_)) => {}
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }
}
