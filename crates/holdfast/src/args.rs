//! The command line as data.

pub mod audit;
pub mod backups;
pub mod cluster;
pub mod delete;
pub mod member;
pub mod offline;
pub mod people;

use crate::output::Form;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use types::{DurationMs, EventId, InstanceId, Name, RequestId, TokenId};

/// Runs OCI images, routes to them, and keeps serving when its own parts fail.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// The server, as in http://127.0.0.1:7070; with others of its cluster behind it, with commas between,
    /// which are asked too what became of a request whose answer was lost
    #[arg(long, global = true, env = "HOLDFAST_SERVER", value_name = "URL[,URL…]")]
    pub server: Option<String>,
    /// The bearer token; better given by the environment
    #[arg(long, global = true, env = "HOLDFAST_TOKEN", value_name = "SECRET", hide_env_values = true)]
    pub token: Option<String>,
    /// The org
    #[arg(long, global = true, env = "HOLDFAST_ORG", value_name = "NAME")]
    pub org: Option<Name>,
    /// The app; otherwise that of ./holdfast.toml
    #[arg(long, global = true, env = "HOLDFAST_APP", value_name = "NAME")]
    pub app: Option<Name>,
    /// The environment
    #[arg(long, global = true, env = "HOLDFAST_ENV", value_name = "NAME")]
    pub env: Option<Name>,
    /// The request id of a write, to send the very same request again
    #[arg(long, global = true, value_name = "ULID")]
    pub request_id: Option<RequestId>,
    /// Wait until it is done (the default)
    #[arg(long, global = true, overrides_with = "no_wait")]
    pub wait: bool,
    /// Return as soon as it is written
    #[arg(long, global = true, overrides_with = "wait")]
    pub no_wait: bool,
    /// How long to wait, as in 90s
    #[arg(long, global = true, value_name = "DURATION")]
    pub timeout: Option<DurationMs>,
    /// Answer in JSON
    #[arg(long, global = true)]
    pub json: bool,
}

impl Global {
    /// How to print.
    pub fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(flatten)]
    Role(Box<Role>),
    #[command(flatten)]
    Daily(Daily),
}

/// The parts a machine can play.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// All roles on this machine, with a log of its own
    Up(UpArgs),
    /// The control plane
    Server(ServerArgs),
    /// Runs instances on this machine
    Agent(AgentArgs),
    /// Routes connections to instances
    Edge(EdgeArgs),
}

#[derive(Clone, Debug, Args)]
pub struct UpArgs {
    /// A TOML file with one key for each of these flags; flags and environment are stronger
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything is kept
    #[arg(long, env = "HOLDFAST_DATA_DIR", default_value = ".holdfast", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where the API listens
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "ADDRESS")]
    pub listen: std::net::SocketAddr,
    #[command(flatten)]
    pub routing: RoutingArgs,
    /// Where the agent serves metrics
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7073")]
    pub agent_metrics: std::net::SocketAddr,
    /// What this machine is to be called; otherwise its host name
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
    /// Only the server and the edge: instances run elsewhere
    #[arg(long)]
    pub without_agent: bool,
    /// A TOML file with the OpenID providers by way of which people may log in
    #[arg(long, env = "HOLDFAST_PROVIDERS", value_name = "FILE")]
    pub providers: Option<PathBuf>,
    #[command(flatten)]
    pub backups: backups::BackupsArgs,
}

#[derive(Clone, Debug, Args)]
pub struct ServerArgs {
    /// A TOML file with one key for each of these flags; flags and environment are stronger
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the log is kept
    #[arg(long, env = "HOLDFAST_DATA_DIR", default_value = ".holdfast", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where the API listens
    #[arg(long, env = "HOLDFAST_LISTEN", default_value = "127.0.0.1:7070", value_name = "ADDRESS")]
    pub listen: std::net::SocketAddr,
    /// The first owner's token is handed over by whoever started this process
    #[arg(long, hide = true)]
    pub leave_owner_token: bool,
    /// A TOML file with the OpenID providers by way of which people may log in
    #[arg(long, env = "HOLDFAST_PROVIDERS", value_name = "FILE")]
    pub providers: Option<PathBuf>,
    #[command(flatten)]
    pub backups: backups::BackupsArgs,
}

/// How a node becomes one, and where it keeps that.
#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// A TOML file with one key for each of these flags; flags and environment are stronger
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything is kept
    #[arg(long, env = "HOLDFAST_DATA_DIR", default_value = ".holdfast", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The single-use secret of `holdfast nodes join-token`, for the first start
    #[arg(long, env = "HOLDFAST_JOIN_TOKEN", value_name = "SECRET", hide_env_values = true)]
    pub join_token: Option<String>,
    /// Where the node's identity is kept; otherwise node.toml in the data directory
    #[arg(long, value_name = "FILE")]
    pub credential_file: Option<PathBuf>,
    /// What the node is to be called; otherwise the machine's host name
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
}

#[derive(Clone, Debug, Args)]
pub struct AgentArgs {
    #[command(flatten)]
    pub node: NodeArgs,
    /// Where metrics are served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7073")]
    pub metrics: std::net::SocketAddr,
    /// Memory for instances, as in 4Gi; otherwise what the machine has
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<types::ByteSize>,
    /// Cores for instances; otherwise what the machine has
    #[arg(long, value_name = "CORES")]
    pub cpu: Option<f64>,
}

#[derive(Clone, Debug, Args)]
pub struct RoutingArgs {
    /// Where TLS connections come in, told apart by server name
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:443")]
    pub tls_listen: std::net::SocketAddr,
    /// The address on which routes with a port of their own listen
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub tcp_address: std::net::IpAddr,
    /// Where the edge serves metrics
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7072")]
    pub edge_metrics: std::net::SocketAddr,
}

#[derive(Clone, Debug, Args)]
pub struct EdgeArgs {
    #[command(flatten)]
    pub node: NodeArgs,
    #[command(flatten)]
    pub routing: RoutingArgs,
}

/// What people do, and what scripts do.
#[derive(Debug, Subcommand)]
pub enum Daily {
    /// Show the difference, ask, deploy, wait, print a receipt
    Apply(ApplyArgs),
    /// Deploy another image with the manifest as it is, or a first one with none
    Deploy(DeployArgs),
    /// What is declared, what runs, what is routed, and why they differ
    Status,
    /// Why something is as it is
    Explain {
        /// A process, an instance, a route; otherwise everything
        what: Option<String>,
    },
    /// The instances
    Ps {
        /// Also those that have ended
        #[arg(long, short)]
        all: bool,
    },
    /// What instances print
    Logs(LogsArgs),
    /// Set how many instances of a process there are
    Scale {
        /// As in web=3
        #[arg(value_name = "PROCESS=N", value_parser = scale_of)]
        to: (Name, u32),
    },
    /// Replace instances by fresh ones, one at a time
    Restart {
        /// Only this process
        process: Option<Name>,
    },
    /// Go back to an earlier release
    Rollback {
        /// A number or an id; otherwise the last one that worked
        release: Option<String>,
        #[command(flatten)]
        yes: YesArgs,
    },
    /// The releases
    Releases,
    /// What happened
    Events(EventsArgs),
    /// What anybody attempted, and what came of it
    Audit(audit::AuditArgs),
    /// Wait until something is so
    Wait {
        /// converged, ready, a deploy (dep_…) or the number of an event
        #[arg(default_value = "converged")]
        what: String,
    },
    /// Apps
    Apps {
        #[command(subcommand)]
        verb: Option<AppsVerb>,
    },
    /// Environments of the app
    Envs {
        #[command(subcommand)]
        verb: Option<EnvsVerb>,
    },
    /// Routes of the org
    Routes,
    /// Machines
    Nodes {
        #[command(subcommand)]
        verb: Option<NodesVerb>,
    },
    /// Bearer tokens
    Tokens {
        #[command(subcommand)]
        verb: Option<TokensVerb>,
    },
    /// Members of the org: people who may log in
    Members {
        #[command(subcommand)]
        verb: Option<people::MembersVerb>,
    },
    /// Make a token of one's own by name and password, and save it
    Login(people::LoginArgs),
    /// Revoke the token that login made, and forget it
    Logout,
    /// What became of a request
    Requests {
        #[command(subcommand)]
        verb: RequestsVerb,
    },
    /// Members of the cluster, and who of them has authority
    Cluster {
        #[command(subcommand)]
        verb: cluster::ClusterVerb,
    },
    /// The log on this machine's disk, without a server
    Log {
        #[command(subcommand)]
        verb: LogVerb,
    },
    /// Read views: list them, or fold them anew and compare
    Views {
        #[command(subcommand)]
        verb: Option<ViewsVerb>,
    },
    /// Look at this machine and at the server: what wants attention, and one command for each
    Doctor {
        /// Where a role keeps, or is to keep, its data here
        #[arg(long, env = "HOLDFAST_DATA_DIR", default_value = ".holdfast", value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Print what completes command lines in a shell
    Completion {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Who the token is
    Whoami,
    /// What runs here and there
    Version,
}

/// How scripts say yes.
#[derive(Clone, Copy, Debug, Args)]
pub struct YesArgs {
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The manifest; - is standard input
    #[arg(long, short, default_value = "holdfast.toml", value_name = "PATH")]
    pub file: PathBuf,
    /// Only show what would change
    #[arg(long)]
    pub plan: bool,
    #[command(flatten)]
    pub yes: YesArgs,
}

#[derive(Debug, Args)]
pub struct DeployArgs {
    /// The image: registry/name:tag, registry/name@sha256:… or oci:PATH:tag
    #[arg(long, value_name = "REF")]
    pub image: String,
    #[command(flatten)]
    pub yes: YesArgs,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// One instance; otherwise all that run
    pub instance: Option<InstanceId>,
    /// Only this process
    #[arg(long)]
    pub process: Option<Name>,
    /// So many of the last lines
    #[arg(long, short = 'n', default_value_t = 100)]
    pub tail: u32,
    /// Stay and print what comes
    #[arg(long, short)]
    pub follow: bool,
}

#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Only events after this one
    #[arg(long, value_name = "N")]
    pub after: Option<EventId>,
    /// At most so many
    #[arg(long, default_value_t = 50)]
    pub limit: usize,
    /// Stay and print what comes
    #[arg(long, short)]
    pub follow: bool,
}

#[derive(Debug, Subcommand)]
pub enum AppsVerb {
    /// All of the org
    List,
    /// One
    Show { name: Name },
    /// It and its environments: what they run is stopped, and their routes go
    Delete(delete::AppArgs),
}

#[derive(Debug, Subcommand)]
pub enum EnvsVerb {
    /// All of the app
    List,
    /// One of them: what it runs is stopped, and its routes go
    Delete(delete::EnvArgs),
}

#[derive(Debug, Subcommand)]
pub enum NodesVerb {
    /// All
    List,
    /// No new instances there, and the present ones away
    Drain { node: String },
    /// Instances there again
    Activate { node: String },
    /// Nothing there any more, at once: what it runs is stopped, replaced elsewhere or not
    Disable(delete::NodeArgs),
    /// Forget a disabled node and its credential
    Remove(delete::NodeArgs),
    /// A single-use secret that makes a machine a node
    JoinToken {
        /// How long it may be used
        #[arg(long, default_value = "1h", value_name = "DURATION")]
        expires_in: DurationMs,
    },
}

#[derive(Debug, Subcommand)]
pub enum TokensVerb {
    /// All, without their secrets
    List,
    /// Make one; its secret is printed once
    Create {
        name: Name,
        /// owner, admin, operator, developer, viewer or auditor
        #[arg(long)]
        role: api::TokenRole,
        /// How long it lives
        #[arg(long, default_value = "90d", value_name = "DURATION")]
        expires_in: DurationMs,
        /// A service principal: it confirms the guarded acts that its scopes name, and no others
        #[arg(long)]
        service: bool,
        /// What a service principal may confirm, as in confirm:cluster.promote; again for more
        #[arg(long, value_name = "SCOPE")]
        scope: Vec<String>,
    },
    /// Make one useless
    Revoke {
        // Not `token`: that is the global argument with the secret.
        #[arg(id = "token_id", value_name = "TOKEN")]
        token: TokenId,
    },
}

#[derive(Debug, Subcommand)]
pub enum RequestsVerb {
    /// What became of it
    Show { id: RequestId },
    /// It may never run, if it has not
    Void { id: RequestId },
}

#[derive(Debug, Subcommand)]
pub enum ViewsVerb {
    /// All
    List,
    /// Fold one anew from the first event and compare; without a name, each
    Rebuild { name: Option<String> },
}

/// Where the log is.
#[derive(Debug, Args)]
pub struct LogPlace {
    /// The data directory of a server
    #[arg(long, env = "HOLDFAST_DATA_DIR", default_value = ".holdfast", value_name = "DIR")]
    pub data_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum LogVerb {
    /// Check every record
    Verify(LogPlace),
    /// Print its events, one line each
    Cat {
        #[command(flatten)]
        place: LogPlace,
        /// Only events after this one
        #[arg(long, default_value = "0", value_name = "N")]
        after: EventId,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Write its events to a file, one JSON object in each line
    Export {
        #[command(flatten)]
        place: LogPlace,
        /// The file, which must not be there yet
        #[arg(long, short)]
        output: PathBuf,
    },
}

fn scale_of(text: &str) -> Result<(Name, u32), String> {
    let (process, replicas) = text.split_once('=').ok_or("wants PROCESS=N, as in web=3")?;
    let process = process.parse().map_err(|error: types::ParseError| error.to_string())?;
    let replicas = replicas.parse().map_err(|_| format!("{replicas:?} is not a number of instances"))?;
    if replicas > types::limits::REPLICAS {
        return Err(format!("{replicas} instances are more than the limit of {}", types::limits::REPLICAS));
    }
    Ok((process, replicas))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parsed(args: &[&str]) -> Cli {
        Cli::try_parse_from([&["holdfast"], args].concat())
            .unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_documentation_is_there() {
        let command = Cli::command();
        let known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        for name in [
            "up",
            "server",
            "agent",
            "edge",
            "apply",
            "deploy",
            "status",
            "explain",
            "ps",
            "logs",
            "scale",
            "restart",
            "rollback",
            "releases",
            "events",
            "wait",
            "apps",
            "envs",
            "routes",
            "nodes",
            "tokens",
            "requests",
            "cluster",
            "log",
            "views",
            "version",
            "doctor",
            "completion",
            "audit",
        ] {
            assert!(known.contains(&name), "{name} is missing");
        }
    }

    /// A line for each subcommand that does something.
    const SAMPLES: &[&str] = &[
        "up --config up.toml --data-dir d --without-agent",
        "server --data-dir d --listen 127.0.0.1:1",
        "agent --join-token secret --memory 4Gi --cpu 2",
        "edge --tls-listen 127.0.0.1:1",
        "apply -f shop.toml --plan --yes",
        "deploy --image r/shop:1 --yes",
        "status",
        "explain web",
        "ps --all",
        "logs ins_01JD0000000000000000000002 --process web -n 5 --follow",
        "scale web=3",
        "restart web",
        "rollback 2 --yes",
        "releases",
        "events --after 3 --limit 5 --follow",
        "audit --follow --limit 5 --actor tok_1 --type denied --outcome not_executed --since 2h",
        "audit --all",
        "audit verify --data-dir d",
        "wait converged",
        "apps list",
        "apps show shop",
        "apps delete shop --reason over --explain",
        "envs list",
        "envs delete staging --confirm act_1",
        "routes",
        "nodes list",
        "nodes disable one --reason sold --explain",
        "nodes remove one --confirm act_1 --acknowledge x",
        "nodes drain one",
        "nodes activate one",
        "nodes join-token --expires-in 1h",
        "tokens list",
        "tokens create ci --role viewer --expires-in 1h",
        "tokens create ci --role operator --service --scope confirm:cluster.promote",
        "members list",
        "members create ann --role admin",
        "members set ann --role viewer --password",
        "members link ann --issuer https://login.example --subject 1",
        "members unlink ann",
        "members delete ann",
        "members password",
        "logout",
        "login ann --role viewer --token-name laptop --expires-in 1h --replace",
        "tokens revoke tok_01JD0000000000000000000002",
        "requests show 01JD0000000000000000000001",
        "requests void 01JD0000000000000000000001",
        "cluster init --data-dir d --name one --peer 127.0.0.1:7071 --failover operator --election-ms 150-300",
        "cluster join 127.0.0.1:7071 --secret s --read-only --peer 127.0.0.1:7072",
        "cluster status",
        "cluster join-token --expires-in 1h",
        "cluster promote two --reason gone",
        "cluster handover two --reason planned --explain",
        "cluster fence --reason cut-off --confirm act_1",
        "cluster fence two --reason cut-off --explain",
        "cluster fence --data-dir d --explain",
        "cluster remove two --reason sold --confirm act_1 --acknowledge x --acknowledge y --yes",
        "cluster snapshot",
        "cluster adopt --reason restored",
        "cluster recover --data-dir d --reason burnt --confirm rec_1 --acknowledge x --acknowledge y",
        "cluster backup --to b --key-file k --data-dir d --keep 3 --whole",
        "cluster backup --to b --list",
        "cluster backup --to s3://b/p --key-command pass --verify",
        "cluster restore --from b --key-file k --into n --to-event 7",
        "cluster restore --from b --key-file k --into n --to-time 2026-11-20T09:00:00Z",
        "cluster drill --from b --key-file k --scratch s",
        "log verify --data-dir d",
        "log cat --after 3 --limit 5",
        "log export -o events.jsonl",
        "views list",
        "views rebuild apps",
        "whoami",
        "doctor --data-dir d",
        "completion bash",
        "version",
    ];

    /// Every path of subcommands that ends in one without any.
    fn leaves(command: &clap::Command, path: &str) -> Vec<String> {
        let below: Vec<String> = command
            .get_subcommands()
            .flat_map(|verb| leaves(verb, &format!("{path} {}", verb.get_name())))
            .collect();
        if below.is_empty() { vec![path.trim().to_owned()] } else { below }
    }

    #[test]
    fn a_line_of_every_subcommand_is_understood() {
        for path in leaves(&Cli::command(), "") {
            let begins = |line: &&&str| line.split(' ').zip(path.split(' ')).all(|(a, b)| a == b);
            assert!(SAMPLES.iter().any(|line| begins(&line)), "no sample of {path:?}");
        }
        for line in SAMPLES {
            let args: Vec<&str> = line.split(' ').chain(["--token", "hf_secret", "--app", "shop"]).collect();
            let cli = parsed(&args);
            assert_eq!(cli.global.token.as_deref(), Some("hf_secret"), "{line}");
            assert_eq!(cli.global.app.as_ref().map(Name::as_str), Some("shop"), "{line}");
        }
        match parsed(&["tokens", "revoke", "tok_01JD0000000000000000000002"]).command {
            Command::Daily(Daily::Tokens { verb: Some(TokensVerb::Revoke { token }) }) => {
                assert_eq!(token.to_string(), "tok_01JD0000000000000000000002");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_argument_of_a_subcommand_has_the_id_of_a_global_one() {
        fn check(command: &clap::Command, global: &[String], path: &str) {
            for verb in command.get_subcommands() {
                let path = format!("{path} {}", verb.get_name());
                for id in verb.get_arguments().map(|own| own.get_id().to_string()) {
                    assert!(!global.contains(&id), "{path} has an argument {id} of its own");
                }
                check(verb, global, &path);
            }
        }
        let command = Cli::command();
        let global: Vec<String> = command
            .get_arguments()
            .filter(|argument| argument.is_global_set())
            .map(|argument| argument.get_id().to_string())
            .collect();
        assert!(global.iter().any(|id| id == "token"), "{global:?}");
        check(&command, &global, "holdfast");
    }

    #[test]
    fn global_flags_go_before_and_after_the_command() {
        for args in [&["--app", "shop", "--json", "status"][..], &["status", "--app", "shop", "--json"]] {
            let cli = parsed(args);
            assert_eq!(cli.global.app.as_ref().map(Name::as_str), Some("shop"));
            assert_eq!(cli.global.form(), Form::Json);
        }
        let cli = parsed(&["restart", "--no-wait", "--wait"]);
        assert!(cli.global.wait && !cli.global.no_wait, "the last word counts");
    }

    #[test]
    fn scale_takes_a_process_and_a_number() {
        match parsed(&["scale", "web=3"]).command {
            Command::Daily(Daily::Scale { to: (process, 3) }) => assert_eq!(process.as_str(), "web"),
            other => panic!("{other:?}"),
        }
        for bad in ["web", "web=", "web=-1", "Web=1", "web=1001"] {
            assert!(Cli::try_parse_from(["holdfast", "scale", bad]).is_err(), "{bad}");
        }
        assert!(Cli::try_parse_from(["holdfast", "scale", "web=0"]).is_ok());
    }

    /// The commands in a text: what stands in code and begins with the program's name.
    fn commands(text: &str) -> Vec<String> {
        let (mut found, mut fenced) = (Vec::new(), false);
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if fenced {
                found.push(line.trim().trim_start_matches("$ ").trim_start_matches("sudo ").to_owned());
            } else {
                found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
            }
        }
        found.retain(|command| command.starts_with("holdfast "));
        found
    }

    /// What is wrong with a command of the documentation, if anything: a subcommand or an option that the
    /// program does not have. Values are not looked at.
    fn wrong(command: &str) -> Option<String> {
        let mut at = Cli::command();
        at.build();
        let mut at = &at;
        for word in command.split_whitespace().skip(1) {
            if ["|", "#", "&&", ";", ">"].contains(&word) {
                break;
            }
            if let Some(name) = word.strip_prefix("--") {
                let name = name.split(['=', ']', ',']).next().unwrap_or_default();
                let known = at.get_arguments().any(|argument| argument.get_long() == Some(name));
                if !known && !["help", "version"].contains(&name) {
                    return Some(format!("no option --{name}"));
                }
            } else if let Some(next) = at.find_subcommand(word) {
                at = next;
            } else if at.is_subcommand_required_set()
                && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
            {
                return Some(format!("no subcommand {word}"));
            }
        }
        None
    }

    #[test]
    fn every_command_in_the_documents_exists() {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut pages = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
        let mut folders = vec![root.join("docs")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("is listed") {
                let path = entry.expect("is listed").path();
                match path.extension() {
                    Some(kind) if kind == "md" => pages.push(path),
                    None => folders.push(path),
                    Some(_) => {}
                }
            }
        }
        let (mut count, mut faults) = (0, Vec::new());
        for page in pages {
            for command in commands(&std::fs::read_to_string(&page).expect("is read")) {
                count += 1;
                faults.extend(wrong(&command).map(|why| format!("{}: `{command}`: {why}", page.display())));
            }
        }
        assert!(count > 50, "{count} commands were found");
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        assert_eq!(wrong("holdfast cluster explode"), Some("no subcommand explode".into()));
        assert_eq!(wrong("holdfast apply --force"), Some("no option --force".into()));
    }
}
