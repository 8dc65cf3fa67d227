//! Limits of the server process (decision 11): each with its unit and the reason for its size.
//!
//! Owns: bounds of queues, batches, waits and streams in this process. Does not own: limits of objects (`stint-api`), of the
//! state machine (`stint-core`) and of the wire (`stint-proto`).

/// Proposals waiting for a place in a log entry. Beyond it callers get `RESOURCE_EXHAUSTED`: at 10,000 commands a second
/// this is less than half a second of queue, more would only be latency.
pub const PROPOSAL_QUEUE_MAX: usize = 4_096;

/// Bytes of all proposals waiting: bounds memory when each of them is large.
pub const PROPOSAL_QUEUE_BYTES_MAX: usize = 32 << 20;

/// Commands in one log entry: one entry's `apply` stays in the low milliseconds.
pub const BATCH_COMMANDS_MAX: usize = 256;

/// Bytes of commands in one log entry; a single command may be larger. Keeps entries below the 1 MiB at which replication
/// streams stall each other.
pub const BATCH_BYTES_MAX: usize = 768 << 10;

/// Log entries proposed and not answered: enough to keep the log thread busy while the next batch gathers.
pub const BATCHES_IN_FLIGHT_MAX: usize = 4;

/// How long a caller waits for its proposal. Longer than an election, shorter than the patience of most clients.
pub const PROPOSAL_TIMEOUT_MS: u64 = 10_000;

/// Retry hint when a queue is full.
pub const OVERLOAD_RETRY_MS: u64 = 200;

/// Retry hint when there is no leader: about half an election.
pub const NO_LEADER_RETRY_MS: u64 = 300;

/// How long a request waits on a follower for a leader to be known before it is refused.
pub const LEADER_WAIT_MS: u64 = 1_500;

/// How long a linearizable read may take to be confirmed and applied.
pub const READ_TIMEOUT_MS: u64 = 5_000;

/// How long a follower waits for the leader's part of a cluster status before it answers with its own.
pub const STATUS_LEADER_WAIT_MS: u64 = 1_000;

/// Pause between two looks at which servers there are, for agents to be told.
pub const SERVERS_LOOK_MS: u64 = 1_000;

/// Snapshots that one server saves at once: each reads all rows, and holds what was deleted meanwhile on disk.
pub const SNAPSHOTS_SAVED_MAX: usize = 2;

/// Bytes of one message of a snapshot that is saved; well below the limit of a message.
pub const SNAPSHOT_MESSAGE_BYTES: usize = 1 << 20;

/// Messages of a snapshot made ready for its reader.
pub const SNAPSHOT_MESSAGES_AHEAD: usize = 4;

/// How long the reader of a snapshot may take no message.
pub const SNAPSHOT_READER_MS: u64 = 60_000;

/// Timers and backlog: shortest pause between two looks at the state, so that a state that is always due can't spin.
pub const TIMER_PAUSE_MIN_MS: u64 = 5;

/// Timers: longest sleep, so that a missed wake-up costs at most this (level-triggered, R9).
pub const TIMER_SLEEP_MAX_MS: u64 = 1_000;

/// Row changes kept for watches. At 10,000 changes a second a watcher may lag by ten seconds.
pub const WATCH_HISTORY_EVENTS_MAX: usize = 100_000;

/// Approximate bytes of the kept row changes; most are shared with the state.
pub const WATCH_HISTORY_BYTES_MAX: usize = 128 << 20;

/// Row changes looked at in one go for one watch, so that a filter that matches little does not hold a thread.
pub const WATCH_CHUNK_EVENTS_MAX: usize = 512;

/// Messages made ready for one watch's stream; a slow reader holds these and no more, the rest waits in the history.
/// Few, since each of them may be as large as an object.
pub const WATCH_STREAM_BUFFER: usize = 8;

/// How long a watch's reader may read nothing: it holds one of the places for watches.
pub const WATCH_READER_MS: u64 = 60_000;

/// Open watches of one server.
pub const WATCHES_MAX: usize = 4_096;

/// Pause between two bookmarks of an idle watch.
pub const WATCH_BOOKMARK_MS: u64 = 5_000;

/// How long a watch from a revision that this server has not reached waits for it.
pub const WATCH_FUTURE_WAIT_MS: u64 = 5_000;

/// Job records and templates remembered for composing watch events.
pub const WATCH_REMEMBERED_JOBS_MAX: usize = 16_384;

/// Approximate bytes of them. What is forgotten is read from rows when an event needs it.
pub const WATCH_REMEMBERED_BYTES_MAX: usize = 32 << 20;

/// Watches that are being sent what there is, each with a thread and a view.
pub const WATCHES_BEGINNING_MAX: usize = 128;

/// How long a watch's reader may take to read what there is: its view keeps storage from being reclaimed.
pub const WATCH_PRESENT_MS: u64 = 60_000;

/// How long it may read nothing meanwhile: others wait for the place.
pub const WATCH_PRESENT_STALL_MS: u64 = 10_000;

/// Pause of a thread whose watch's reader has not made room yet.
pub const WATCH_PRESENT_PAUSE_MS: u64 = 5;

/// Rows looked at for one page of a list; the page ends there with a continue token, however few matched.
pub const LIST_SCAN_ROWS_MAX: usize = 20_000;

/// Rows read in one go while listing.
pub const LIST_SCAN_CHUNK_ROWS: usize = 512;

/// Lists that wait for their next page to be asked for, each with a thread and a view; the oldest goes first.
pub const LISTS_OPEN_MAX: usize = 32;

/// How long a list waits for its next page.
pub const LIST_KEPT_MS: u64 = 60_000;

/// How long a list may take in all: its view keeps storage from being reclaimed.
pub const LIST_LIFE_MS: u64 = 600_000;

/// Longest continue token: a key holds at most two names of 253 bytes.
pub const CONTINUE_TOKEN_BYTES_MAX: usize = 2_048;

/// Requests of one connection that may be open at once.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;

/// Header block of a request: a token of 4 KiB and the usual metadata fit.
pub const HEADER_BYTES_MAX: u32 = 16 << 10;

/// HTTP/2 pings on idle connections, and how long an answer may take.
pub const KEEPALIVE_MS: u64 = 5_000;

/// Bytes of all requests being taken in or carried out: what callers can make this server hold, whatever they send.
pub const REQUESTS_BYTES_MAX: usize = 256 << 20;

/// What a request counts at least, for everything around its bytes.
pub const REQUEST_BYTES_MIN: usize = 1 << 10;

/// How long a request may take to arrive whole.
pub const REQUEST_READ_MS: u64 = 20_000;

/// Connections of clients and agents: every agent of the largest cluster has one.
pub const CLIENT_CONNECTIONS_MAX: usize = 32_768;

/// Connections accepted and not served yet.
pub const CLIENT_ACCEPT_QUEUE: usize = 64;

/// Pause after the system refused to accept a connection, such as for want of file descriptors.
pub const ACCEPT_RETRY_MS: u64 = 50;

/// How long a connection may take until it has said that it speaks HTTP/2; afterwards pings show that it lives.
pub const CONNECTION_PREFACE_MS: u64 = 10_000;

/// How long open requests may go on after SIGTERM.
pub const DRAIN_MS: u64 = 10_000;

/// How long handing over leadership may take at SIGTERM.
pub const STEP_DOWN_MS: u64 = 3_000;

/// How long replication and storage may take to stop, at the end of it; what is not on the disk by then is in the log.
pub const REPLICATION_STOP_MS: u64 = 5_000;

/// Agent sessions of one leader.
pub const SESSIONS_MAX: usize = 20_000;

/// Streams of agents: sessions, those that are about to become one, and those that a newer one has replaced.
pub const SESSION_STREAMS_MAX: usize = SESSIONS_MAX + 4_096;

/// Messages waiting to be sent to one agent, heartbeat answers and acknowledgements among them. A session whose agent does
/// not read them is ended: its lease runs out, which is right.
pub const SESSION_OUT_QUEUE: usize = 1_024;

/// How many of them may be waiting when an order is added; further orders are dropped, so that they take no room from
/// answers. As many as an agent has credits for in the beginning, and as many again.
pub const SESSION_ORDERS_QUEUE: usize = 512;

/// Parts of desired sets waiting to be sent to one agent. Each may be as large as a message.
pub const SESSION_SETS_QUEUE: usize = 2;

/// How long an agent may take to send its first message.
pub const SESSION_FIRST_MESSAGE_MS: u64 = 5_000;

/// Pieces of one log waiting for its reader. Their bytes are bounded by credit (`stint_proto::limits`); this is for lines
/// that come one by one while the reader stalls.
pub const LOG_CHUNKS_QUEUED_MAX: usize = 4_096;

/// Logs read at once through one server.
pub const LOG_STREAMS_MAX: usize = 1_024;

/// Logs read at once through one agent session.
pub const LOG_STREAMS_PER_SESSION_MAX: usize = 64;

/// How long an agent may take for the next piece of a log that is not followed.
pub const LOG_CHUNK_WAIT_MS: u64 = 10_000;

/// Events waiting for the lease loop: one heartbeat of a session at most. Agents beyond it are not read until there is room.
pub const LEASE_EVENTS_MAX: usize = 8_192;

/// Times a deletion by name is tried, if the name comes to another Job just then.
pub const DELETE_TRIES_MAX: u32 = 4;

/// Retry hint for an agent whose previous boot's lease still lives (A2).
pub const PREVIOUS_LEASE_RETRY_MS: u64 = 1_000;

/// Shortest and longest lease of nodes (agent-protocol, lease numbers).
pub const NODE_LEASE_MS_MIN: u64 = 5_000;
/// See [`NODE_LEASE_MS_MIN`].
pub const NODE_LEASE_MS_MAX: u64 = 600_000;

/// Servers in one initial cluster.
pub const INITIAL_MEMBERS_MAX: usize = 7;

/// Longest name of a server, as of a DNS label.
pub const SERVER_NAME_BYTES_MAX: usize = 63;

/// Longest address of a server: a name of 253 bytes and a port.
pub const ADDRESS_BYTES_MAX: usize = 260;

/// Shortest token that is taken: 128 bits written as hexadecimal digits would be 32; 16 characters is the floor.
pub const TOKEN_BYTES_MIN: usize = 16;

/// How often the leader compares its table of leases with the nodes of the state: a registration whose session broke
/// before the table was told must expire too (R9).
pub const LEASES_RECONCILE_MS: u64 = 1_000;

/// Addresses of a Pod: one of each family, and some for networks that are not known yet.
pub const POD_ADDRESSES_MAX: usize = 4;

/// What a node may say of itself: bytes of a boot id, a version, a runtime's name, a condition's type and reason. What
/// it allows has limits of its own (crate `api`).
pub const NODE_WORD_BYTES_MAX: usize = 128;

/// Bytes of the message of a node's condition, and of a container's end: Kubernetes' own limit for the latter. Longer
/// messages are cut.
pub const AGENT_MESSAGE_BYTES_MAX: usize = 4_096;

/// Bytes of what a runtime calls an image: a name and a digest. Longer ones are cut.
pub const IMAGE_ID_BYTES_MAX: usize = 512;

/// Labels of a node.
pub const NODE_LABELS_MAX: usize = 256;

/// Runtimes of a node, and conditions that it has by itself.
pub const NODE_WORDS_MAX: usize = 32;

/// Messages of one session about its node that wait for their turn: an agent says again what was not taken.
pub const SESSION_CONDITIONS_QUEUE: usize = 1;

/// Names made for one create whose name is left to the server, if each is taken already. With a million Jobs of one prefix
/// a fourteenth of all its names is taken, and one create in a billion fails.
pub const GENERATED_NAMES_MAX: usize = 1 + stint_core::limits::OTHER_NAMES_MAX;

/// Reports of one session that wait for their turn to be proposed: what an agent may have in flight, in messages. Their
/// number is bounded by the wire (`REPORTS_IN_FLIGHT_MAX`), one in a message is the worst that is allowed.
pub const SESSION_REPORTS_QUEUE: usize = 1_024;

/// Bytes of them.
pub const SESSION_REPORTS_BYTES_MAX: usize = 16 << 20;

/// Orders waiting to be composed and sent; further ones are dropped, the desired set mends it (A9).
pub const ORDERS_QUEUE_MAX: usize = 16_384;

/// Uids of Pods deleted lately, for which an agent may drop its logs at once (A8).
pub const DELETED_PODS_REMEMBERED_MAX: usize = 65_536;

/// How often the leader looks through all Pods for those whose logs agents keep and that are gone. Deletions that it saw
/// itself are known at once; this is for those before its time.
pub const ENDED_PODS_SWEEP_MS: u64 = 600_000;

/// The first such look after a server began to lead.
pub const ENDED_PODS_FIRST_SWEEP_MS: u64 = 60_000;

/// Uids that agents ask about between two looks; further ones wait for the next.
pub const ENDED_PODS_ASKED_MAX: usize = 262_144;

/// Shortest pause between two looks for a Pod whose log is followed before it has started, however much its Job changes.
pub const LOG_WAIT_PAUSE_MS: u64 = 50;

/// Questions of one agent about its desired set that wait for their answer; further ones are dropped, agents ask again.
pub const SESSION_HELD_QUEUE: usize = 2;

/// Heartbeats of one node of which it is remembered over which session they came: those of the rounds that are under way.
pub const HEARTBEATS_REMEMBERED_MAX: usize = 8;

/// Nodes whose first runtimes are compared to tell what runs a Pod that names none: each creation of a Job does.
pub const NODES_COMPARED_MAX: usize = 64;

/// Lease of nodes of a new cluster.
pub const NODE_LEASE_DEFAULT_MS: u64 = 10_000;

/// How long an event is kept after its last occurrence, in a new cluster: Kubernetes' own default.
pub const EVENT_RETENTION_MS: u64 = 3_600_000;

/// Shortest time that events may be kept: shorter and nobody could read them.
pub const EVENT_RETENTION_MS_MIN: u64 = 60_000;

/// Longest time that events may be kept; their number is bounded anyway.
pub const EVENT_RETENTION_MS_MAX: u64 = 7 * 24 * 3_600_000;

/// J122: ended Pods that a new cluster keeps. Kubernetes keeps 12,500 in the memory of its servers. Here a row of some 250
/// bytes stays on their disks, and the logs on the disk of the node: eight times as many are some 25 MB and still listed
/// within a second.
pub const ENDED_PODS_DEFAULT: u32 = 100_000;

/// How often the leader compares the number of ended Pods with how many are kept.
pub const POD_COLLECTION_INTERVAL_MS: u64 = 5_000;

/// Ended Pods that one look through all rows finds, so that what it holds is bounded: some 100 bytes each.
pub const POD_COLLECTION_CHUNK: usize = 50_000;

/// Deletions of ended Pods that are proposed at once: few against what a batch holds, so that Jobs go first.
pub const POD_COLLECTION_PROPOSALS: usize = 256;

/// How long an agent waits before it asks again a cluster that is not set up yet.
pub const NOT_READY_RETRY_MS: u64 = 200;

/// Channels (commands being executed, connections to ports) open at once through one server. Each holds at most twice its
/// credit in each direction.
pub const CHANNELS_MAX: usize = 1_024;

/// Channels open at once through one agent session.
pub const CHANNELS_PER_SESSION_MAX: usize = 64;

/// Messages of one channel from its agent that wait for the caller: as many as the credit lets come, and credits between
/// them. An agent that sends more loses the channel.
pub const CHANNEL_PIECES_QUEUED_MAX: usize = 2_048;

/// Messages of channels waiting to be sent to one agent, behind everything else. Who adds one waits for room.
pub const SESSION_CHANNELS_QUEUE: usize = 8;

/// Messages made ready for one caller of a channel.
pub const CHANNEL_STREAM_BUFFER: usize = 4;

/// How long an agent may take to say that a command runs or a connection stands.
pub const CHANNEL_OPEN_MS: u64 = 10_000;

/// Questions of what is used that wait for one agent.
pub const USAGE_QUESTIONS_PER_SESSION_MAX: usize = 8;

/// Agents asked at once, of one question, what is used.
pub const USAGE_NODES_AT_ONCE: usize = 256;

/// How long an agent may take to say what is used: it measures for a second.
pub const USAGE_WAIT_MS: u64 = 4_000;

/// Pods in one answer of an agent about what is used; more are left out.
pub const USAGE_PODS_MAX: usize = 20_000;

/// Arguments of one command.
pub const EXEC_ARGUMENTS_MAX: usize = 1_024;

/// Environment and volume contents of one Pod, as they are sent to its node: with the rest of the order they fit into a
/// message.
pub const POD_CONTENTS_BYTES_MAX: usize = 2 << 20;

// ---- logs that are kept elsewhere than on their node ----

/// What one agent may send of tails of logs at once: its limit on the wire.
pub const LOG_TAIL_MESSAGE_BYTES: u32 = 256 << 10;

/// Compressed bytes of tails of logs that the cluster takes in a second: a small part of what its disks and its network can do,
/// so that Jobs never wait for them; the last words of a thousand containers all the same.
pub const LOG_TAILS_BYTES_PER_SECOND: u32 = 1 << 20;

/// Nodes that may send tails of logs at the same time: their answers travel while another's are committed.
pub const LOG_TAIL_NODES_AT_ONCE: usize = 4;

/// How long an agent whose turn it is may take to send.
pub const LOG_TAIL_WAIT_MS: u64 = 3_000;

/// Pause before tails are proposed again while others wait to be proposed.
pub const LOG_TAILS_RETRY_MS: u64 = 500;

/// Messages about tails of one agent that wait: an offer, tails, an offer.
pub const LOG_TAIL_MESSAGES_QUEUED: usize = 4;

/// Pods that have ended whose rows are known by their uids: agents send the tails of their logs a moment later. Some 4 MB.
pub const ENDED_PODS_KNOWN_MAX: usize = 65_536;

/// How long a reader of a log waits for a node that has a lease and no session, as while its agent is restarted.
pub const LOG_NODE_WAIT_MS: u64 = 2_000;

/// Between two looks at whether it has one again.
pub const LOG_NODE_POLL_MS: u64 = 50;

/// Parts of archived logs that are read at once: each is in memory, up to 4 MiB of it, and the same compressed.
pub const LOG_ARCHIVE_READS_MAX: usize = 8;

/// How long the log archive may take to answer, waiting for a place included.
pub const LOG_ARCHIVE_ANSWER_MS: u64 = 10_000;

/// Pods whose lives a Job's history tells, the oldest first: each is some four decisions of 150 bytes, so that an answer stays
/// below the message limit.
pub const HISTORY_PODS_MAX: usize = 1_000;

/// Jobs, Pods and nodes of an overview, of each, if nobody says how many: what screens show.
pub const OVERVIEW_ITEMS_DEFAULT: usize = 100;

/// Jobs, Pods and nodes of an overview, of each: each is composed for it.
pub const OVERVIEW_ITEMS_MAX: usize = 500;

/// How long a server that is asked whether it is ready may take to apply what was committed when it was asked.
pub const READY_APPLY_MS: u64 = 2_000;
