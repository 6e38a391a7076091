//! Every bound in one place. Hitting one is a clear answer, never a hang or a crash.

use crate::{ByteSize, DurationMs, Generation};

/// How long a write waits for a leader while there is none.
pub const LEADER_WAIT: DurationMs = DurationMs::from_secs(2);
/// How long a member waits for the answer to a request that it handed on to the leader.
pub const FORWARD_WAIT: DurationMs = DurationMs::from_secs(30);
/// How long a majority has to confirm that the leader still is one.
pub const LINEARIZABLE_WAIT: DurationMs = DurationMs::from_secs(2);
/// A member that has heard no leader for this long answers only whoever asks for what is stale.
pub const STALE_AFTER: DurationMs = DurationMs::from_secs(10);
/// Between two notes on disk of how far the log is committed.
pub const COMMIT_NOTE: DurationMs = DurationMs::from_ms(500);
/// How long a backup beside a server waits until what was durable is noted as committed.
pub const COMMIT_NOTE_WAIT: DurationMs = DurationMs::from_secs(5);
/// How long one change of the members may take before it is looked at again.
pub const MEMBERS_WAIT: DurationMs = DurationMs::from_secs(10);
/// How long another member may take to say how it is.
pub const PEER_REPORT: DurationMs = DurationMs::from_secs(1);
/// How long the cluster may take to make one that asks a member; less than [`PEER_SILENCE`].
pub const PEER_JOIN: DurationMs = DurationMs::from_secs(4);
/// How long a server that stops waits for what it has handed to the log.
pub const WRITER_DRAIN: DurationMs = DurationMs::from_secs(5);
/// How long a server that starts waits to be elected before it goes on to serve what it knows.
pub const ELECTION_WAIT: DurationMs = DurationMs::from_secs(5);
/// The largest body of an HTTP request.
pub const REQUEST_BODY: ByteSize = ByteSize::from_mib(2);
/// Commands that may wait for the sequencer; one more is answered *unavailable*.
pub const COMMAND_QUEUE: usize = 4096;
/// Commands decided into one batch of the log.
pub const BATCH_COMMANDS: usize = 512;
/// Events that one command may cause.
pub const COMMAND_EVENTS: usize = 256;
/// The largest encoded event: one that holds all the values a request body can bring, with room for the rest.
pub const EVENT_BYTES: usize = (2 << 20) + (64 << 10);
/// The largest encoded batch, with room for its frame.
pub const BATCH_BYTES: usize = 16 << 20;
/// Batches handed to the log and not yet durable.
pub const BATCHES_IN_FLIGHT: usize = 64;
/// Entries handed to consensus and not yet settled; batches that come meanwhile share the next one.
pub const ENTRIES_IN_FLIGHT: usize = 4;
/// How much a leader sends in a second, unless told otherwise, to each member that catches up.
pub const CATCH_UP: ByteSize = ByteSize::from_mib(32);
/// Rows in one page of a list.
pub const PAGE_ROWS: usize = 500;
/// Streams and long polls of people and programs that one server holds open.
pub const STREAMS: usize = 1024;
/// Streams and long polls of nodes that one server holds open, whatever people do.
pub const NODE_STREAMS: usize = 1024;
/// How long a peer may read nothing of what is sent to it before its connection is closed.
pub const READER_STALL: DurationMs = DurationMs::from_secs(30);
/// One message of an event stream, as the reader takes it; a whole plan is one message.
pub const STREAM_EVENT: usize = 16 << 20;
/// Between two comments on a stream that has nothing to say, so that silence means loss.
pub const STREAM_PING: DurationMs = DurationMs::from_secs(10);
/// How long a reader of a stream waits for anything at all before it calls the stream lost.
pub const STREAM_SILENCE: DurationMs = DurationMs::from_secs(30);
/// How long a client waits for a connection to a server.
pub const CLIENT_CONNECT: DurationMs = DurationMs::from_secs(5);
/// How long a client waits for an answer, unless told otherwise.
pub const CLIENT_ANSWER: DurationMs = DurationMs::from_secs(30);
/// The largest answer a client takes into memory.
pub const CLIENT_BODY: usize = 32 << 20;
/// Servers that one command line knows: the one that is asked, and those that may know what became of it.
pub const CLIENT_SERVERS: usize = 16;
/// How long a command line whose connection broke asks what became of its request.
pub const OUTCOME_ASK: DurationMs = DurationMs::from_secs(5);
/// Between two looks at something that is waited for.
pub const WAIT_POLL: DurationMs = DurationMs::from_ms(250);
/// How long a command line waits for convergence, unless told otherwise.
pub const WAIT_DEFAULT: DurationMs = DurationMs::from_secs(600);
/// Between two attempts to open a lost stream again.
pub const STREAM_REOPEN: DurationMs = DurationMs::from_secs(1);
/// How long a node that is to be enrolled waits for a server to be there.
pub const ENROL_WAIT: DurationMs = DurationMs::from_secs(30);
/// How far a server's clock may be behind the newest event of its log when it starts.
pub const CLOCK_BEHIND: DurationMs = DurationMs::from_secs(3600);
/// How long a read waits for an event it asked for.
pub const READ_WAIT: DurationMs = DurationMs::from_secs(10);
/// How long a long poll is held open.
pub const POLL_WAIT: DurationMs = DurationMs::from_secs(25);

/// Request ids older than this are refused, so that forgetting a verdict can never double it.
pub const REQUEST_HORIZON: DurationMs = DurationMs::from_secs(24 * 3600);
/// Request ids from further ahead than this are refused: they would outlive the horizon.
pub const REQUEST_AHEAD: DurationMs = DurationMs::from_secs(300);
/// Verdicts remembered for one principal; past that its writes are refused until some expire.
pub const VERDICTS_PER_PRINCIPAL: usize = 100_000;

/// Processes in a manifest.
pub const PROCESSES: usize = 16;
/// Routes in a manifest.
pub const ROUTES: usize = 64;
/// Ports of a process.
pub const PORTS: usize = 16;
/// Arguments of a command, and variables of an environment.
pub const ARGUMENTS: usize = 256;
/// Replicas of one process.
pub const REPLICAS: u32 = 1000;
/// The least memory cap an instance can have: below it a runtime cannot start a process.
pub const MEMORY_MIN: ByteSize = ByteSize::from_mib(4);
/// The largest memory cap of an instance.
pub const MEMORY_MAX: ByteSize = ByteSize::from_mib(1 << 20);
/// The largest manifest as text.
pub const MANIFEST_BYTES: usize = 256 << 10;
/// Processes and threads in one instance.
pub const INSTANCE_PIDS: u32 = 1024;

/// How long a deploy may take before it fails, unless the manifest says otherwise.
pub const DEPLOY_DEADLINE: DurationMs = DurationMs::from_secs(300);
/// How often instances of a deploy may fail before the deploy does.
pub const DEPLOY_ATTEMPTS: u32 = 3;
/// How long a stopping instance has between SIGTERM and SIGKILL.
pub const STOP_GRACE: DurationMs = DurationMs::from_secs(10);
/// How long a draining instance waits for edges that do not answer before it stops all the same.
pub const DRAIN_WAIT: DurationMs = DurationMs::from_secs(60);
/// How long connections that are open to a draining instance may stay before it is asked to stop;
/// then it has its stop grace to end them well.
pub const DRAIN_OPEN: DurationMs = DurationMs::from_secs(15);
/// The first wait before a crashed instance is started again; doubles each time.
pub const RESTART_BACKOFF_MIN: DurationMs = DurationMs::from_ms(250);
/// The longest wait before a crashed instance is started again.
pub const RESTART_BACKOFF_MAX: DurationMs = DurationMs::from_secs(60);
/// An instance that ran this long starts again with the first wait.
pub const RESTART_BACKOFF_RESET: DurationMs = DurationMs::from_secs(60);

/// Steps that one look of a planner returns at most.
pub const PLAN_STEPS: usize = 64;

/// How often a node renews its lease.
pub const LEASE_RENEW: DurationMs = DurationMs::from_secs(2);
/// A node not heard of for this long is suspected.
pub const LEASE_SUSPECT: DurationMs = DurationMs::from_secs(10);
/// A node not heard of for this long is offline, and its stateless instances are placed elsewhere.
pub const LEASE_OFFLINE: DurationMs = DurationMs::from_secs(30);

/// Layers of an image.
pub const IMAGE_LAYERS: usize = 128;
/// The manifest and the configuration of an image, each.
pub const IMAGE_DOCUMENT: ByteSize = ByteSize::from_mib(4);
/// One compressed layer of an image.
pub const IMAGE_LAYER: ByteSize = ByteSize::from_mib(8 << 10);
/// An image unpacked.
pub const IMAGE_UNPACKED: ByteSize = ByteSize::from_mib(16 << 10);
/// Files in an image.
pub const IMAGE_FILES: u64 = 1_000_000;
/// Directories inside one another in an image.
pub const IMAGE_DEPTH: usize = 256;
/// A path or a link in a layer.
pub const IMAGE_PATH: usize = 4096;
/// Extended headers of one file in a layer.
pub const IMAGE_HEADER: usize = 1 << 20;
/// How long a registry may take to accept a connection.
pub const IMAGE_CONNECT: DurationMs = DurationMs::from_secs(10);
/// How long a registry may say nothing in the middle of an answer.
pub const IMAGE_STALL: DurationMs = DurationMs::from_secs(30);
/// One pull, from first byte to last.
pub const IMAGE_PULL: DurationMs = DurationMs::from_secs(600);

/// The log of one instance on its host.
pub const INSTANCE_LOG: ByteSize = ByteSize::from_mib(16);
/// Log text that one request returns.
pub const LOG_ANSWER: ByteSize = ByteSize::from_mib(1);

/// A ClientHello: more than this before the server name is known closes the connection.
pub const CLIENT_HELLO: usize = 8 << 10;
/// How long a client may take to say its ClientHello.
pub const CLIENT_HELLO_WAIT: DurationMs = DurationMs::from_secs(5);
/// How long an edge waits for one backend to accept.
pub const BACKEND_CONNECT: DurationMs = DurationMs::from_secs(2);
/// How long a backend that refused is left alone.
pub const BACKEND_EJECT: DurationMs = DurationMs::from_secs(1);
/// Connections one edge carries at once, unless told otherwise.
pub const EDGE_CONNECTIONS: usize = 8192;
/// How long an edge lets open connections finish after SIGTERM.
pub const EDGE_DRAIN: DurationMs = DurationMs::from_secs(30);
/// How long an edge goes on trying backends for one connection, all tries together.
pub const EDGE_CONNECT_TOTAL: DurationMs = DurationMs::from_secs(10);
/// A connection whose backend has ended may stay this long without a byte before it is closed.
pub const EDGE_HALF_CLOSED: DurationMs = DurationMs::from_secs(30);
/// Connections that may wait to be accepted on one listener of an edge.
pub const EDGE_BACKLOG: i32 = 4096;
/// Instances that left the plan and whose counters an edge still shows.
pub const EDGE_RETIRED: usize = 1024;
/// Routes that have lines of their own in an edge's metrics.
pub const EDGE_ROUTES_SHOWN: usize = 1024;
/// Instances that have lines of their own in an edge's metrics, those that left the plan included.
pub const EDGE_INSTANCES_SHOWN: usize = 4096;
/// Nodes that have lines of their own in a server's metrics: those silent for longest.
pub const METRICS_NODES: usize = 1024;
/// Between two times that a server's metrics look at the sizes of its files.
pub const METRICS_FILES_EVERY: DurationMs = DurationMs::from_secs(5);
/// The shortest time between two leases of an edge.
pub const EDGE_RENEW_SPACING: DurationMs = DurationMs::from_ms(50);
/// The first wait before an edge asks again: for its control plane, or for a port that was taken.
pub const EDGE_RETRY_MIN: DurationMs = DurationMs::from_ms(100);
/// The longest such wait.
pub const EDGE_RETRY_MAX: DurationMs = DurationMs::from_secs(5);
/// The largest request to an edge's metrics listener.
pub const METRICS_REQUEST: usize = 4 << 10;
/// Requests for metrics that are answered at once.
pub const METRICS_REQUESTS: usize = 8;

/// Instances an agent starts at once; the others wait their turn.
pub const AGENT_STARTS: usize = 4;
/// One call of the container runtime or of a network tool by an agent.
pub const AGENT_TOOL: DurationMs = DurationMs::from_secs(30);
/// Text of a tool's complaint that is kept in a report.
pub const DETAIL_CHARS: usize = 400;
/// Reports of one instance that an agent keeps for a server that does not take them; past that the
/// oldest go, since each report tells a whole state.
pub const REPORTS_PER_INSTANCE: usize = 32;
/// Reports in one call.
pub const REPORT_BATCH: usize = 256;
/// Log requests an agent answers at once.
pub const LOG_READERS: usize = 16;
/// Between two looks at a followed log.
pub const LOG_POLL: DurationMs = DurationMs::from_ms(100);
/// Between two probes of an instance that has not answered yet.
pub const PROBE_FIRST: DurationMs = DurationMs::from_ms(50);
/// Probes that fail in a row before an instance counts as not ready.
pub const PROBE_FAILURES: u32 = 3;
/// The head of an answer to a probe.
pub const PROBE_HEAD: usize = 8 << 10;
/// The first wait before an agent asks for its control plane again.
pub const AGENT_RETRY_MIN: DurationMs = DurationMs::from_ms(100);
/// The longest such wait.
pub const AGENT_RETRY_MAX: DurationMs = DurationMs::from_secs(5);
/// Between two looks of an agent at everything it has, besides those that news causes.
pub const AGENT_RECONCILE: DurationMs = DurationMs::from_secs(10);
/// Below this much free space an agent evicts caches and takes no new instances.
pub const DISK_SHORT: ByteSize = ByteSize::from_mib(512);
/// Above this much free space an agent takes new instances again.
pub const DISK_ENOUGH: ByteSize = ByteSize::from_mib(768);
/// Memory of a machine that is not given to instances: this much and a sixteenth of the whole.
pub const MEMORY_HEADROOM: ByteSize = ByteSize::from_mib(256);

/// Connections a server holds open at once; more wait in the kernel's queue.
pub const SERVER_CONNECTIONS: usize = 4096;
/// How long a client may take to say the head of a request; an idle connection ends after it too.
pub const REQUEST_HEAD_WAIT: DurationMs = DurationMs::from_secs(30);
/// How long a client may take to say the body of a request.
pub const REQUEST_BODY_WAIT: DurationMs = DurationMs::from_secs(30);
/// How long a server goes on reading a body that is too large, so that the answer is read too.
pub const REQUEST_DRAIN_WAIT: DurationMs = DurationMs::from_secs(5);
/// How long a write waits for its verdict before its answer is *unknown*; less than [`CLIENT_ANSWER`].
pub const VERDICT_WAIT: DurationMs = DurationMs::from_secs(15);
/// How long finding an image's digest may take before a deploy is decided.
pub const IMAGE_RESOLVE: DurationMs = DurationMs::from_secs(12);
/// How long a reader of a log waits for the instance's agent to answer.
pub const ASK_WAIT: DurationMs = DurationMs::from_secs(10);
/// Log requests that one agent may have waiting.
pub const ASKS_PER_NODE: usize = 16;
/// Pieces of a log on their way from an agent to whoever reads it.
pub const ASK_PIECES: usize = 16;
/// How long a server that stops lets answers under way finish.
pub const SERVER_DRAIN: DurationMs = DurationMs::from_secs(5);

/// The largest message between members, or its answer: entries for one member, at least one of which
/// always fits. More closes the connection.
pub const PEER_MESSAGE: usize = 2 * BATCH_BYTES;
/// A larger message between members goes in pieces of this size, and small ones go in between.
pub const PEER_PIECE: usize = 64 << 10;
/// The first message on a connection between members, before anybody is known.
pub const PEER_HELLO: usize = 4 << 10;
/// Messages to one member that wait for an answer; one more is not sent.
pub const PEER_REQUESTS: usize = 128;
/// Connections of other members that one member holds open; more wait in the kernel's queue.
pub const PEER_CONNECTIONS: usize = 256;
/// How long reaching another member may take: connection, TLS and greeting together.
pub const PEER_CONNECT: DurationMs = DurationMs::from_secs(2);
/// How long one that connects may take until it is known who it is; how long its reason is left to
/// be read when it is refused, too.
pub const PEER_GREETING: DurationMs = DurationMs::from_secs(5);
/// Between two signs of life on a connection between members.
pub const PEER_PING: DurationMs = DurationMs::from_secs(1);
/// A connection between members on which nothing came or could be sent for this long is lost.
pub const PEER_SILENCE: DurationMs = DurationMs::from_secs(5);
/// A connection to a member that nothing was asked of for this long is closed until it is needed.
pub const PEER_IDLE: DurationMs = DurationMs::from_secs(60);
/// The first wait before a member is tried again; doubles each time. Short, for an election waits.
pub const PEER_RETRY_MIN: DurationMs = DurationMs::from_ms(50);
/// The longest such wait.
pub const PEER_RETRY_MAX: DurationMs = DurationMs::from_secs(1);
/// A leader heard within this time has told all there is to know of who is a member.
pub const PEER_CURRENT: DurationMs = DurationMs::from_secs(3);
/// How far behind a member's clock may be when a certificate is made for it.
pub const PEER_CLOCK_BEHIND: DurationMs = DurationMs::from_secs(24 * 3600);

/// How long a certificate lasts that the API shows to clients.
pub const API_CERTIFICATE_LIFE: DurationMs = DurationMs::from_secs(90 * 24 * 3600);
/// With so much of it left another is made.
pub const API_CERTIFICATE_LEFT: DurationMs = DurationMs::from_secs(30 * 24 * 3600);
/// Addresses of a machine for which certificates are kept.
pub const API_CERTIFICATES: usize = 32;

/// Members of a cluster that are present at once.
pub const MEMBERS: usize = 32;
/// An address of a member: for its peers, or the URL of its API.
pub const ADDRESS_CHARS: usize = 300;
/// The name of a guarded act, and that of its target, in characters.
pub const ACT_CHARS: usize = 200;
/// Instances that the explanation of an act lists one by one; the rest is counted.
pub const ACT_ROWS: usize = 64;
/// How long the token of an explained act lives.
pub const CONFIRMATION_LIFE: DurationMs = DurationMs::from_secs(120);
/// Such tokens one principal may have; one more takes the place of the oldest.
pub const CONFIRMATIONS_PER_ACTOR: usize = 8;
/// Such tokens one server keeps; past that it explains nothing until some have ended.
pub const CONFIRMATIONS: usize = 256;
/// The state that one explanation may be bound to, as JSON.
pub const CONFIRMATION_STATE: usize = 64 << 10;
/// The reason given for a guarded act, in characters.
pub const REASON_CHARS: usize = 500;
/// Acknowledgements in one confirmation.
pub const ACKNOWLEDGEMENTS: usize = 16;
/// One acknowledgement, in characters.
pub const ACKNOWLEDGEMENT_CHARS: usize = 200;
/// One segment of the journal; past that it is sealed and a new one begins.
pub const JOURNAL_SEGMENT: u64 = 4 << 20;
/// One text in a line of the journal; a longer one is cut, and says so.
pub const JOURNAL_TEXT: usize = 4 << 10;
/// The body of a request in a line of the journal, as JSON; a longer one is cut, and says so.
pub const JOURNAL_BODY: usize = 4 << 10;
/// Lines of the journal that are kept in memory for readers.
pub const JOURNAL_RECENT: usize = 512;
/// Lines of one page that one member reads of its journal, and their size, about.
pub const JOURNAL_PAGE: usize = 500;
/// See [`JOURNAL_PAGE`].
pub const JOURNAL_PAGE_BYTES: usize = 1 << 20;
/// Lines and events that one page may look through for those that fit a filter.
pub const AUDIT_SCAN: usize = 20_000;
/// Attempts that wait to be written down; one more is counted as lost, and the count is written.
pub const AUDIT_QUEUE: usize = 1024;
/// Attempts that are written and made durable at once.
pub const AUDIT_BATCH: usize = 256;
/// How long an answer waits for its attempt to be written down.
pub const AUDIT_WAIT: DurationMs = DurationMs::from_secs(2);
/// Between two looks at what has ended: windows of floods, explained acts, a disk that has space again.
pub const AUDIT_TICK: DurationMs = DurationMs::from_ms(500);
/// The window in which a source's denials are counted.
pub const FLOOD_WINDOW: DurationMs = DurationMs::from_secs(60);
/// Denials of one source that are written one by one in a window; the rest is counted.
pub const FLOOD_LINES: u64 = 20;
/// Sources that are told apart in a window; all others are counted as one.
pub const FLOOD_SOURCES: usize = 1024;
/// How long another member may take to give a page of its journal.
pub const AUDIT_ANSWER: DurationMs = DurationMs::from_secs(2);
/// How long another member may take to hold its journal against its chain.
pub const AUDIT_VERIFY: DurationMs = DurationMs::from_secs(60);
/// Lines of one member's journal about one request that are shown.
pub const REQUEST_LINES: usize = 50;
/// Between two looks of a stream at the members' journals.
pub const AUDIT_LOOK: DurationMs = DurationMs::from_secs(1);
/// What the entry that opens an epoch says of its reason.
pub const EPOCH_REASON: usize = 4 << 10;
/// Files of entries that were cut and are kept aside; past that the oldest stay.
pub const ASIDE_FILES: usize = 64;
/// Damaged files of a log that are kept; past that nothing is repaired.
pub const QUARANTINE_FILES: usize = 32;
/// Entries that another member gives at once to a damaged log, about; one always.
pub const REPAIR_PIECE: usize = 4 << 20;
/// How long another member may take to answer a question about a damaged log.
pub const REPAIR_ANSWER: DurationMs = DurationMs::from_secs(10);
/// How long a leader may take to show that it leads, and to make what it has durable.
pub const REPAIR_LEAD: DurationMs = DurationMs::from_secs(5);
/// For so long a leader is asked for; then what can be read behind the damage is proof enough.
pub const REPAIR_LEADER_WAIT: DurationMs = DurationMs::from_secs(3);
/// A member with a damaged log whom no other has answered for so long gives up.
pub const REPAIR_ALONE: DurationMs = DurationMs::from_secs(30);
/// So many damaged places of a log are repaired at one start.
pub const REPAIR_PLACES: usize = 64;
/// How long a node remembers why the lead is about to be handed to it.
pub const HANDOVER_REMEMBERED: DurationMs = DurationMs::from_secs(5);
/// How long a leader that stops tries to hand the lead to another voter.
pub const HANDOVER_ON_STOP: DurationMs = DurationMs::from_secs(1);

/// Entries of the log that a backup puts into one object, about: with one batch more at the most.
pub const BACKUP_PART: usize = 8 << 20;
/// The largest object of a backup besides its manifest, sealed or not.
pub const BACKUP_OBJECT: usize = 2 * (BACKUP_PART + BATCH_BYTES);
/// The largest manifest of a backup, sealed or not.
pub const BACKUP_MANIFEST: usize = 64 << 20;
/// Objects in a store of backups.
pub const BACKUP_OBJECTS: usize = 4 << 20;
/// Objects younger than this are not pruned: a backup that runs has not named them yet.
pub const BACKUP_GRACE: DurationMs = DurationMs::from_secs(24 * 3600);
/// Archived parts younger than this are not pruned: whoever wrote them is reading them back.
pub const ARCHIVE_GRACE: DurationMs = DurationMs::from_secs(60);
/// One call to a store of backups over the network.
pub const BACKUP_CALL: DurationMs = DurationMs::from_secs(120);
/// How long calls to a store of backups are tried again before they have failed.
pub const BACKUP_RETRY: DurationMs = DurationMs::from_secs(60);
/// How often, at most.
pub const BACKUP_RETRIES: usize = 5;
/// One text in what the log notes of a backup, in characters: a place, a name, a reason.
pub const BACKUP_TEXT: usize = 400;
/// Between two backups that a server makes by itself, unless told otherwise.
pub const BACKUP_EVERY: DurationMs = DurationMs::from_secs(24 * 3600);
/// The shortest that may be.
pub const BACKUP_EVERY_MIN: DurationMs = DurationMs::from_secs(1);
/// Backups that a server keeps, unless told otherwise.
pub const BACKUPS_KEPT: usize = 14;
/// Between two looks of a server at what of its log is not archived yet, unless told otherwise.
pub const ARCHIVE_EVERY: DurationMs = DurationMs::from_secs(10);
/// Between two drills of a server, unless told otherwise.
pub const DRILL_EVERY: DurationMs = DurationMs::from_secs(7 * 24 * 3600);
/// A drill leaves this much space free where it restores to; without it, it ends.
pub const DRILL_LEAVES: ByteSize = ByteSize::from_mib(256);
/// The first wait before a step of a backup that failed is tried again; doubles each time.
pub const BACKUP_AGAIN_MIN: DurationMs = DurationMs::from_secs(1);
/// The longest such wait.
pub const BACKUP_AGAIN_MAX: DurationMs = DurationMs::from_secs(300);
/// A step that goes on failing is noted in the log this often.
pub const BACKUP_FAILED_AGAIN: DurationMs = DurationMs::from_secs(3600);
/// A step that fails again after it had worked is noted again only after this time.
pub const BACKUP_FAILED_APART: DurationMs = DurationMs::from_secs(300);
/// How long a command may take that gives the key of a backup.
pub const KEY_COMMAND: DurationMs = DurationMs::from_secs(30);
/// The longest text that can be a key, whitespace around it included.
pub const KEY_TEXT: usize = 4 << 10;

/// The longest identity of a log, in bytes.
pub const IDENTITY_BYTES: usize = 200;
/// No plan has a higher generation: what is above was never counted.
pub const GENERATION_MAX: Generation = Generation::new(1 << 52);
/// Logs that one log can have adopted plans of; past that the first adopted are forgotten.
pub const ADOPTED_LOGS: usize = 64;
/// Instances that an adoption can name as not running.
pub const ADOPT_ABSENT: usize = 16_384;
/// Nodes told one by one in what an adoption does, and names in one line of it; the rest is counted.
pub const ADOPT_NAMED: usize = 8;
/// Nodes that the facts of an adoption, and the status of the cluster, have a row for.
pub const ADOPT_NODES: usize = 256;
/// How long agents keep what an adoption stops until every edge has let go of it.
pub const ADOPT_EDGES: DurationMs = DurationMs::from_secs(10);

/// People who may log in.
pub const PEOPLE: usize = 10_000;
/// Living tokens of one person.
pub const TOKENS_OF_A_PERSON: usize = 50;
/// Scopes of one service principal.
pub const SCOPES: usize = 32;
/// The longest scope.
pub const SCOPE_CHARS: usize = 64;
/// The shortest password: what NIST SP 800-63B (revision 4, 3.1.1.2) asks of one that stands alone.
pub const PASSWORD_SHORTEST: usize = 15;
/// The longest password in bytes; more than anybody types, and little to hash.
pub const PASSWORD_LONGEST: usize = 1024;
/// The longest text of a password's hash.
pub const PASSWORD_HASH: usize = 256;
/// Memory of one Argon2id in KiB, with [`ARGON2_PASSES`] and one lane: the first choice for servers of the
/// OWASP Password Storage Cheat Sheet (19 MiB, 2 passes).
pub const ARGON2_KIB: u32 = 19 * 1024;
/// Passes of Argon2id over its memory.
pub const ARGON2_PASSES: u32 = 2;
/// Passwords hashed at once.
pub const PASSWORD_HASHERS: usize = 2;
/// Passwords that may wait to be hashed; one more is turned away.
pub const PASSWORDS_WAITING: usize = 32;
/// Failed logins under one name within [`LOGIN_WINDOW`]; then the name waits.
pub const LOGIN_FAILURES_PER_NAME: u32 = 10;
/// Failed logins from one address within [`LOGIN_WINDOW`]; then the address waits.
pub const LOGIN_FAILURES_PER_ADDRESS: u32 = 50;
/// The window in which failed logins are counted.
pub const LOGIN_WINDOW: DurationMs = DurationMs::from_secs(300);
/// Names and addresses whose failed logins are counted; past it the oldest is forgotten.
pub const LOGIN_COUNTED: usize = 10_000;
/// A session that nobody used for this long has ended.
pub const SESSION_IDLE: DurationMs = DurationMs::from_secs(30 * 60);
/// A session that is this old has ended, used or not.
pub const SESSION_LIFE: DurationMs = DurationMs::from_secs(12 * 3600);
/// Sessions of one person, or with one token, on one server; one more ends the one that was idle for longest.
pub const SESSIONS_OF_ONE: usize = 20;
/// Sessions on one server; past it the one that was idle for longest ends.
pub const SESSIONS: usize = 10_000;
/// The longest URL of an OpenID provider, in bytes.
pub const ISSUER: usize = 512;
/// The longest subject of a provider, in bytes: what OpenID Connect Core 1.0, section 2, lets it be.
pub const SUBJECT: usize = 255;
/// Providers that one server lets people log in by way of.
pub const PROVIDERS: usize = 8;
/// The largest file that names them.
pub const PROVIDERS_FILE: u64 = 64 << 10;
/// Logins that have been sent to a provider and have not come back; past it the oldest is forgotten.
pub const LOGINS_PENDING: usize = 1024;
/// How long a login may take at its provider.
pub const LOGIN_PENDING: DurationMs = DurationMs::from_secs(600);
/// The largest answer that is taken from a provider.
pub const PROVIDER_ANSWER: usize = 256 << 10;
/// Keys of a provider that are looked at.
pub const PROVIDER_KEYS: usize = 64;
/// How long one answer of a provider may take, to its last byte.
pub const PROVIDER_WAIT: DurationMs = DurationMs::from_secs(5);
/// Logins that wait for answers of one provider at once; one more is turned away.
pub const PROVIDER_ASKED: usize = 8;
/// How long what a provider says of itself, its keys among it, is believed.
pub const PROVIDER_KEPT: DurationMs = DurationMs::from_secs(3600);
/// Requests that one token or person may make in a second, over a while; nodes have no such limit.
pub const REQUESTS_PER_SECOND: u32 = 1_000;
/// Requests that one token or person may make at once after a pause.
pub const REQUESTS_BURST: u32 = 4_000;
/// Askers whose requests are counted; past it the one that was quiet for longest is forgotten.
pub const ASKERS_COUNTED: usize = 10_000;

/// The body of a form of the web page.
pub const FORM_BODY: usize = 64 << 10;

/// Namespaces of configuration that one org has.
pub const CONFIG_NAMESPACES: usize = 10_000;
/// The longest path of a namespace.
pub const CONFIG_PATH: usize = 255;
/// Names in the path of a namespace.
pub const CONFIG_DEPTH: usize = 8;
/// Namespaces that a value can be inherited through, itself included.
pub const CONFIG_CHAIN: usize = 16;
/// The longest key of a value.
pub const CONFIG_KEY: usize = 256;
/// The largest value.
pub const CONFIG_VALUE: usize = 1 << 20;
/// The longest description of a value, a namespace or a release, in bytes.
pub const CONFIG_DESCRIPTION: usize = 1024;
/// Tags of one value.
pub const CONFIG_TAGS: usize = 16;
/// Values of one namespace, unless it is given less.
pub const CONFIG_ENTRIES: u32 = 10_000;
/// Bytes of the values of one namespace, unless it is given less.
pub const CONFIG_BYTES: ByteSize = ByteSize::from_mib(64);
/// Keys that one namespace has ever had: a version of a key is never used twice, so they are remembered.
pub const CONFIG_KEYS: usize = 40_000;
/// Bytes of the values of all namespaces of an org, what is proposed included.
pub const CONFIG_ORG_BYTES: ByteSize = ByteSize::from_mib(512);
/// Keys that one write or one change sets or deletes.
pub const CONFIG_EDITS: usize = 256;
/// Bytes of the values of one write or one change.
pub const CONFIG_CHANGE_BYTES: usize = 2 << 20;
/// Changes of one namespace that are neither published nor withdrawn.
pub const CONFIG_OPEN_CHANGES: usize = 64;
/// Comments on one change.
pub const CONFIG_COMMENTS: u32 = 500;
/// The longest comment, reason or title of a change, in bytes.
pub const CONFIG_COMMENT: usize = 4 << 10;
/// Times that one change can be edited.
pub const CONFIG_STEPS: u32 = 500;
/// Approvals that a namespace can ask for.
pub const CONFIG_APPROVALS: u8 = 16;
/// People that a namespace names as reviewers.
pub const CONFIG_REVIEWERS: usize = 64;
/// How far ahead a change can be scheduled.
pub const CONFIG_AHEAD: DurationMs = DurationMs::from_secs(366 * 24 * 3600);
/// Changes that were due at one moment and are published in one look.
pub const CONFIG_DUE: usize = 64;
/// The longest schema of a namespace.
pub const CONFIG_SCHEMA: usize = 256 << 10;
/// Steps that a schema takes to look at one value, each reference followed.
pub const CONFIG_SCHEMA_STEPS: usize = 20_000;
/// Values that a new schema is held against before it is set.
pub const CONFIG_SCHEMA_VALUES: usize = 20_000;
/// Bytes of values in one page of a list, about; one value always.
pub const CONFIG_PAGE_BYTES: u64 = 4 << 20;
/// Bytes of values in one document.
pub const CONFIG_DOCUMENT: u64 = 8 << 20;
/// Keys in one page of a difference; each may have two values.
pub const CONFIG_DIFF_ROWS: usize = 100;
/// Violations of a schema that one answer lists; the rest is counted.
pub const CONFIG_VIOLATIONS: usize = 20;
