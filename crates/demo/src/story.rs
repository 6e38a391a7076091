//! The demo's phases, in order. Each does one thing to the platform while the load goes on, waits
//! for what must follow, and counts what failed meanwhile.

use crate::summary::{ENOUGH, Summary};
use demo::{
    Authority, CLOSED_FIRST, Failure, Load, Manifest, Metrics, OPEN, Outcome, Platform, Registry, Role,
    Routes, Running, get_blocking,
    image::{Recipe, Temper, build},
    wait_for,
};
use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

/// The name that clients ask for.
const HOST: &str = "demo.example";
/// How long a wait for something that must happen may take.
const SOON: Duration = Duration::from_secs(40);

/// Everything that runs, and what was counted.
pub struct Story {
    pub platform: Platform,
    pub registry: Registry,
    pub summary: Summary,
    load: Option<Load>,
    routes: Routes,
    outage: Duration,
}

fn say(line: &str) {
    println!("\n── {line}");
}

impl Story {
    /// Makes images, registry and platform; nothing is deployed yet.
    pub fn prepare(binary: &Path, dir: &Path, outage: Duration) -> Outcome<Self> {
        say("making images v1, v2 and a broken v3, and a registry for them");
        let authority = Authority::new()?;
        let recipes = [
            Recipe { version: "v1", temper: Temper::Sound },
            Recipe { version: "v2", temper: Temper::Sound },
            Recipe { version: "v3", temper: Temper::Exits },
        ];
        let layout = dir.join("image");
        build(&layout, &authority, &[HOST], &recipes)?;
        let registry = Registry::start(dir)?;
        for recipe in &recipes {
            println!("   pushed {}", registry.push(&layout, recipe.version, "demo")?);
        }
        say("starting server, agent and edge as three processes");
        let mut platform = Platform::new(binary, dir)?;
        platform.start()?;
        println!("   API at {}", platform.url());
        let routes = platform.routes(HOST, authority.der())?;
        Ok(Self { platform, registry, summary: Summary::default(), load: None, routes, outage })
    }

    /// The whole story.
    pub fn tell(&mut self) -> Outcome {
        self.deploy_first()?;
        self.serve()?;
        self.deploy_second()?;
        self.deploy_broken()?;
        self.roll_back()?;
        self.kill_instance()?;
        self.eat_memory()?;
        self.lose_server()?;
        self.cut_power()?;
        self.rebuild_views()?;
        self.explain()
    }

    fn load(&self) -> Outcome<&Load> {
        self.load.as_ref().ok_or_else(|| Failure("the load does not run".into()))
    }

    /// Ends a phase: lets what is under way end, and books the count.
    fn book(&mut self, name: &str, allowed: u64, why: &str) -> Outcome {
        self.load()?.settle()?;
        let tally = self.load()?.take();
        self.summary.add(name, &tally, allowed, why.to_owned());
        Ok(())
    }

    fn manifest(&self, version: &str) -> String {
        let image = format!("{}/demo:{version}", self.registry.address());
        Manifest { image: &image, host: HOST, tcp: self.platform.tcp_port(), replicas: 2 }.text()
    }

    /// Waits until both ways in are answered.
    fn answered(&self, within: Duration) -> Outcome {
        for (name, target) in [("by server name", &self.routes.tls), ("by port", &self.routes.tcp)] {
            wait_for(&format!("an answer {name}"), within, || {
                let answer = get_blocking(target, "/", Duration::from_secs(3)).ok()?;
                (answer.status == 200).then_some(())
            })?;
        }
        Ok(())
    }

    /// Waits until two more requests of every client are answered by this version alone.
    fn only(&self, version: &str) -> Outcome {
        wait_for(&format!("{version} alone to answer"), SOON, || {
            let before = self.load().ok()?.look();
            self.load().ok()?.settle().ok()?;
            let after = self.load().ok()?.look();
            let grew: Vec<&String> = after
                .versions
                .iter()
                .filter(|(name, count)| before.versions.get(*name) != Some(count))
                .map(|(name, _)| name)
                .collect();
            (grew == [version]).then_some(())
        })
    }

    /// Waits until the control plane says that both replicas are ready.
    fn converged(&self) -> Outcome {
        wait_for("both replicas to be ready, by the control plane", SOON, || {
            let status = self.platform.cli(&["status", "--app", "demo", "--json"]).ok()?.json().ok()?;
            (status["converged"] == true).then_some(())
        })
    }

    fn deploy_first(&mut self) -> Outcome {
        say("deploy v1 with two replicas: holdfast apply");
        let start = Instant::now();
        let receipt = self.platform.apply(&self.manifest("v1"))?.executed()?;
        self.answered(SOON)?;
        self.summary.ready_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        println!("{}", indent(&receipt.stdout));
        println!("   every route answers after {} ms", self.summary.ready_ms);
        self.converged()?;
        self.load = Some(Load::start(&self.routes)?);
        self.book("deploy v1", 0, "the load begins when the first version answers")
    }

    fn serve(&mut self) -> Outcome {
        say("requests through the edge, by server name and by port, on new and on lasting connections");
        sleep(Duration::from_secs(4));
        self.book("requests by server name and by port", 0, "nothing is being done to the platform")
    }

    fn deploy_second(&mut self) -> Outcome {
        say("deploy v2 under load");
        let receipt = self.platform.apply(&self.manifest("v2"))?.executed()?;
        println!("{}", indent(&receipt.stdout));
        self.only("v2")?;
        self.book("deploy v2 under load", 0, "a rolling deploy drains before it stops")
    }

    fn deploy_broken(&mut self) -> Outcome {
        say("deploy v3, which ends at start");
        let said = self.platform.apply(&self.manifest("v3"))?;
        let text = format!("{}{}", said.stdout, said.stderr);
        println!("{}", indent(&text));
        if said.code != 1 || !text.contains("exited") {
            return Err(Failure(format!("a broken deploy exited with {} and no reason", said.code)));
        }
        self.only("v2")?;
        self.book("broken v3 fails with its reason", 0, "v2 stays until v3 is ready, which it never is")
    }

    fn roll_back(&mut self) -> Outcome {
        say("roll back to v1: holdfast rollback 1");
        let receipt = self.platform.cli(&["rollback", "1", "--app", "demo", "--yes"])?.executed()?;
        println!("{}", indent(&receipt.stdout));
        self.only("v1")?;
        self.converged()?;
        self.book("roll back to v1", 0, "a roll back is a rolling deploy")
    }

    fn kill_instance(&mut self) -> Outcome {
        say("kill one instance: SIGKILL of its process");
        let before = self.platform.metrics()?;
        let victim = self.victim(|_| true)?;
        println!("   {} (pid {})", victim.instance, victim.main().pid);
        victim.main().kill(libc::SIGKILL);
        self.comes_back(&victim, &before, "an instance is killed and comes back")
    }

    fn eat_memory(&mut self) -> Outcome {
        say("an instance eats memory until the kernel ends it at its cap of 64Mi");
        let before = self.platform.metrics()?;
        let running = self.platform.running();
        let answer = get_blocking(&self.routes.tcp, "/eat", Duration::from_secs(5))?;
        println!("   {}", String::from_utf8_lossy(&answer.body).trim());
        let victim = wait_for("the eater to be ended", SOON, || {
            running.iter().find(|running| !running.main().runs()).cloned()
        })?;
        let named = wait_for("the reason oom_killed in the events", SOON, || {
            let events = self.platform.cli(&["events", "--limit", "500", "--json"]).ok()?.stdout;
            let line = events.lines().find(|line| line.contains("oom_killed"))?;
            Some(line.contains(&victim.instance))
        })?;
        if !named {
            return Err(Failure(format!("oom_killed was not said of {}", victim.instance)));
        }
        println!("   {} is named oom_killed", victim.instance);
        self.comes_back(&victim, &before, "an eater of memory is ended at its cap")
    }

    fn victim(&self, fits: impl Fn(&Running) -> bool) -> Outcome<Running> {
        let running = self.platform.running();
        if running.len() != 2 {
            return Err(Failure(format!("two instances should run here, and {} do", running.len())));
        }
        running.into_iter().find(fits).ok_or_else(|| Failure("no instance to kill".into()))
    }

    /// After an instance was ended: it runs and is routed to again, and no more requests failed
    /// than it had connections, by the edge's count.
    fn comes_back(&mut self, victim: &Running, before: &Metrics, name: &str) -> Outcome {
        let id = victim.instance.as_str();
        wait_for("the instance to run again", SOON, || {
            let now = self.platform.running();
            now.iter().find(|running| running.instance == id && running.main() != victim.main()).map(drop)
        })?;
        wait_for("the edge to send to it again", SOON, || {
            (self.platform.metrics().ok()?.of_instance(OPEN, id) > 0).then_some(())
        })?;
        self.load()?.settle()?;
        let now = self.platform.metrics()?;
        let cut = now.of_instance(CLOSED_FIRST, id).saturating_sub(before.of_instance(CLOSED_FIRST, id));
        let why =
            format!("the edge counted {cut} connections that were open on the instance and ended with it");
        println!("   {why}");
        self.converged()?;
        self.book(name, cut, &why)
    }

    fn lose_server(&mut self) -> Outcome {
        let seconds = self.outage.as_secs();
        say(&format!("SIGKILL of the server for {seconds} s, then its restart"));
        let before = self.platform.running();
        self.platform.kill_hard(Role::Server);
        sleep(self.outage);
        self.platform.start_server()?;
        self.converged()?;
        if self.platform.running() != before {
            return Err(Failure("an instance was restarted while the server was gone".into()));
        }
        let pids: Vec<u32> = before.iter().map(|running| running.main().pid).collect();
        println!("   the instances are the same processes as before: {pids:?}");
        let name = format!("no server for {seconds} s, and its restart");
        self.book(&name, 0, "nothing that serves needs the server")
    }

    fn cut_power(&mut self) -> Outcome {
        say("power cut: SIGKILL of server, agent, edge and every instance; only agent and edge start again");
        let before = self.platform.running();
        self.platform.cut_power()?;
        if before.iter().any(|running| running.main().runs()) {
            return Err(Failure("an instance survived the power cut".into()));
        }
        let start = Instant::now();
        self.platform.start_agent()?;
        self.platform.start_edge()?;
        self.answered(SOON)?;
        self.summary.cold_start_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        println!(
            "   every route answers {} ms after agent and edge were started",
            self.summary.cold_start_ms
        );
        self.load()?.settle()?;
        let tally = self.load()?.take();
        let why = "the host was off: nothing listens until the edge is back; every failure of this phase is allowed";
        self.summary.add("power cut", &tally, tally.failed, why.to_owned());
        wait_for("both instances to run", SOON, || (self.platform.running().len() == 2).then_some(()))?;
        sleep(Duration::from_secs(3));
        self.book("after the power cut, still no server", 0, "plans on disk are enough")
    }

    fn rebuild_views(&mut self) -> Outcome {
        say("the server is back; every view is rebuilt from the log");
        self.platform.start_server()?;
        self.converged()?;
        let rebuilt = self.platform.cli(&["views", "rebuild", "--json"])?.executed()?.json()?;
        let rows = rebuilt.as_array().cloned().unwrap_or_else(|| vec![rebuilt.clone()]);
        for row in &rows {
            println!(
                "   {} {} {}",
                row["name"],
                row["after"],
                if row["equal"] == true { "equal" } else { "DIFFERS" }
            );
        }
        self.summary.fingerprints_equal = !rows.is_empty() && rows.iter().all(|row| row["equal"] == true);
        self.book("server back, views rebuilt", 0, "reading the log again touches nothing that serves")
    }

    fn explain(&mut self) -> Outcome {
        say("holdfast explain");
        let said = self.platform.cli(&["explain", "--app", "demo"])?.executed()?;
        println!("{}", indent(&said.stdout));
        let counted = self.summary.requests();
        wait_for("enough requests in all", Duration::from_secs(60), || {
            let now = self.load().ok()?.look().requests;
            (counted + now >= ENOUGH).then_some(())
        })?;
        self.book("explain", 0, "a read; the load goes on until enough requests are counted")?;
        if let Some(load) = self.load.take() {
            load.stop();
        }
        Ok(())
    }
}

fn indent(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("   {line}")).collect::<Vec<_>>().join("\n")
}
