//! A person at a terminal who is interrupted: at a question, and while waiting.

use crate::{
    proxy::{Cut, Proxy},
    scene::{SOON, Scene, fresh, said},
};
use api::RequestVerdict;
use demo::{kill, wait_for};
use rt::Boundary::*;
use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command},
    sync::{Arc, Mutex},
};
use types::RequestId;

/// The command line at a terminal of its own.
struct Seat {
    child: Child,
    keys: File,
    shown: Arc<Mutex<String>>,
}

/// Both ends of a terminal.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut near, mut far) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: both places are integers of this function, and nothing else is asked for.
    let opened = unsafe { libc::openpty(&mut near, &mut far, none, none.cast(), none.cast()) };
    assert_eq!(opened, 0, "a terminal");
    // SAFETY: both were just opened and belong to nobody else.
    unsafe { (OwnedFd::from_raw_fd(near), OwnedFd::from_raw_fd(far)) }
}

impl Seat {
    fn of(mut command: Command) -> Self {
        let (near, far) = terminal();
        let copy = || far.try_clone().expect("a descriptor");
        command.stdin(copy()).stdout(copy()).stderr(copy());
        // SAFETY: only system calls that may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().expect("the program runs");
        drop(command);
        drop(far);
        let keys = File::from(near);
        let (mut screen, shown) = (keys.try_clone().expect("a descriptor"), Arc::<Mutex<String>>::default());
        let to = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut piece = [0; 1024];
            // Whoever has written last has hung up.
            while let Ok(count @ 1..) = screen.read(&mut piece) {
                to.lock().expect("no panic").push_str(&String::from_utf8_lossy(&piece[..count]));
            }
        });
        Self { child, keys, shown }
    }

    fn shows(&self, words: &str) {
        wait_for(words, SOON, || self.shown().contains(words).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {}", self.shown()));
    }

    fn shown(&self) -> String {
        self.shown.lock().expect("no panic").clone()
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("a terminal takes keys");
    }

    /// How it ended, once its last words are shown.
    fn ends(mut self, words: &str) -> i32 {
        let status = self.child.wait().expect("it ends");
        self.shows(words);
        status.code().unwrap_or(-1)
    }
}

fn remove(scene: &Scene, proxy: &Proxy, id: RequestId) -> Seat {
    let id = id.to_string();
    let line =
        ["cluster", "remove", "ghost", "--reason", "sold", "--request-id", &id, "--server", &proxy.url];
    Seat::of(scene.command(&line))
}

#[test]
fn fm_o7_whoever_is_interrupted_at_a_question_has_done_nothing() {
    let scene = Scene::of(1);
    scene.ghost("ghost");
    let proxy = scene.proxy(0, Cut::NONE);
    let before = scene.caused(0);
    let id = fresh();
    // Ctrl-C, Ctrl-D, and what is no yes.
    for keys in ["\x03", "\x04", "y\n"] {
        let mut seat = remove(&scene, &proxy, id);
        seat.shows("Type yes to");
        seat.types(keys);
        assert_eq!(seat.ends("nothing was done"), 5, "{keys:?}");
    }
    // A signal from elsewhere.
    let seat = remove(&scene, &proxy, id);
    seat.shows("Type yes to");
    kill(seat.child.id(), libc::SIGTERM);
    assert_eq!(seat.ends("interrupted; nothing was done"), 5);
    // A terminal that is closed.
    let mut seat = remove(&scene, &proxy, id);
    seat.shows("Type yes to");
    kill(seat.child.id(), libc::SIGHUP);
    seat.child.wait().expect("it ends");
    drop(seat);
    // Of a plain question the same is true.
    for (keys, words) in
        [("\x03", "interrupted; nothing was sent"), ("\x04", "not confirmed; nothing was sent")]
    {
        let mut seat = Seat::of(scene.command(&["rollback", "--app", "shop", "--server", &proxy.url]));
        seat.shows("[y/N]");
        seat.types(keys);
        assert_eq!(seat.ends(words), 5, "{keys:?}");
    }
    assert_eq!(proxy.writes(), Vec::<String>::new(), "nothing but explanations were asked for");
    assert_eq!(scene.caused(0), before);
    assert!(scene.has_member(0, "ghost") && !scene.state(0, id).is_final);
    // And whoever says yes has it done.
    let mut seat = remove(&scene, &proxy, id);
    seat.shows("Type yes to");
    seat.types("yes\n");
    assert_eq!(seat.ends("is no member any more"), 0);
    assert_eq!(scene.verdict(0, id), RequestVerdict::Executed);
}

#[test]
fn fm_o3_whoever_is_interrupted_while_waiting_is_told_how_to_find_out() {
    let scene = Scene::of(1);
    let line = ["tokens", "create", "ci", "--role", "viewer", "--server", &scene.url(0)];
    for json in [false, true] {
        scene.arm_to_stop(0, WriteReceived);
        let more: &[&str] = if json { &["--json"] } else { &[] };
        let child = scene.begin(&[&line[..], more].concat(), None);
        scene.stopped_at(0);
        kill(child.id(), libc::SIGINT);
        let told = said(&child.wait_with_output().expect("it ends"));
        scene.goes_on(0);
        assert_eq!((told.code, told.stdout.as_str()), (7, ""), "{told:?}");
        let id = match json {
            true => {
                let problem: serde_json::Value = serde_json::from_str(&told.stderr).expect("one object");
                assert_eq!(problem["outcome"], "unknown", "{problem}");
                problem["request_id"].as_str().expect("an id").to_owned()
            }
            false => {
                let first = told.stderr.lines().next().unwrap_or_default();
                first.strip_prefix("request ").expect("it was told before").to_owned()
            }
        };
        assert!(told.stderr.contains(&format!("holdfast requests show {id}")), "{told:?}");
        let id: RequestId = id.parse().expect("an id");
        wait_for("a verdict", SOON, || scene.state(0, id).is_final.then_some(())).expect("it ran");
        assert_eq!(scene.verdict(0, id), RequestVerdict::Executed);
        assert_eq!(scene.effects(0, id), ["token.created"]);
    }
}
