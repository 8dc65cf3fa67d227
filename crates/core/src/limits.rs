//! Limits: how much one entry may do, and how much there may be of anything.
//!
//! Owns: the numbers, each with its unit and reason. What goes beyond a limit per entry is backlog (decision 3);
//! what goes beyond a limit of the cluster is refused.

/// Commands that a proposer may put into one entry.
pub const COMMANDS_PER_ENTRY_MAX: usize = 4_096;

/// Reports in one command of an agent; more are refused, so that one agent can't make an entry long.
pub const REPORTS_PER_COMMAND_MAX: usize = 10_000;

/// Pods that one entry creates; the rest follows over `Continue`.
pub const PODS_CREATED_PER_ENTRY_MAX: usize = 2_000;

/// Pods that one entry creates for one Job, so that a large Job does not keep small ones waiting (J25).
pub const PODS_CREATED_PER_JOB_AND_ENTRY_MAX: usize = 500;

/// Pods that one entry binds to nodes.
pub const PODS_BOUND_PER_ENTRY_MAX: usize = 4_000;

/// Pods that one entry stops because of a scale-down, a suspension, the end or the deletion of a Job.
pub const PODS_STOPPED_PER_ENTRY_MAX: usize = 2_000;

/// Pods of lost nodes that one entry ends.
pub const PODS_LOST_PER_ENTRY_MAX: usize = 1_000;

/// Nodes of the cluster before a restore that one entry forgets.
pub const NODES_FORGOTTEN_PER_ENTRY_MAX: usize = 1_000;

/// By how much a restore raises revisions (decision 6): more than any cluster comes to after a snapshot.
pub const REVISION_RAISE: u64 = 1 << 40;

/// Rows of ended Pods that one entry deletes (decision 5).
pub const PODS_DELETED_PER_ENTRY_MAX: usize = 1_000;

/// Jobs whose deletion one command carries on: more would make the chunks of each too small.
pub const DELETIONS_PER_COMMAND_MAX: usize = 32;

/// Timers of Jobs that one entry fires.
pub const TIMERS_PER_ENTRY_MAX: usize = 4_000;

/// Events and tombstones, each, that one entry lets expire.
pub const EXPIRIES_PER_ENTRY_MAX: usize = 2_000;

/// Jobs in the cluster, finished ones included, and deleted ones whose Pods are still there: each costs some 100 bytes of
/// memory on every server.
pub const JOBS_MAX: usize = 4_000_000;

/// ConfigMaps in the cluster: of each, every server keeps name and size in memory.
pub const CONFIG_MAPS_MAX: usize = 10_000;

/// Bytes of the contents of all ConfigMaps together: each new server is sent them.
pub const CONFIG_MAPS_BYTES_MAX: u64 = 256 << 20;

/// Bytes of one tail of a log as it is kept, compressed: more than any 64 KiB of entries can become.
pub const LOG_TAIL_BYTES_MAX: usize = 80 << 10;

/// Tails of logs in one command: its rows are read and written in one entry.
pub const LOG_TAILS_PER_COMMAND_MAX: usize = 1_024;

/// Runs of one container whose tails are kept: the last one, and the one before.
pub const LOG_TAIL_RUNS_KEPT: u32 = 2;

/// What a tail counts for beyond its content, so that many small ones are bounded too.
pub const LOG_TAIL_OVERHEAD_BYTES: u64 = 256;

/// Tails of logs kept in the cluster; beyond it the one that was written longest ago goes. Of each, every server keeps some
/// 150 bytes in memory.
pub const LOG_TAILS_MAX: usize = 100_000;

/// Bytes of all tails together, compressed; beyond it the one that was written longest ago goes. Each new server is sent them,
/// and reads them when it starts.
pub const LOG_TAILS_BYTES_MAX: u64 = 256 << 20;

/// Unfinished Pods in the cluster: each costs some 700 bytes of memory on every server. Creation waits beyond it.
pub const PODS_UNFINISHED_MAX: usize = 1_000_000;

/// Nodes in the cluster.
pub const NODES_MAX: usize = 20_000;

/// Pods that one node may offer to run: its registration and its drain must fit into one entry (A2).
pub const NODE_PODS_MAX: u32 = 10_000;

/// Events kept in the cluster; beyond it the one that would expire first goes.
pub const EVENTS_MAX: usize = 32_768;

/// Events kept about one object (decision 11).
pub const EVENTS_PER_OBJECT_MAX: usize = 32;

/// How long an event is kept after its last occurrence before the cluster's settings are known.
pub const EVENT_RETENTION_DEFAULT_MS: i64 = 3_600_000;

/// Bytes of an event's message; longer ones are cut.
pub const EVENT_MESSAGE_BYTES_MAX: usize = 1_024;

/// Decisions kept in the history of one Job; beyond it the oldest goes. The row is written anew with each.
pub const DECISIONS_PER_JOB_MAX: usize = 100;

/// Decisions kept in memory, of all unfinished Jobs: each costs some 250 bytes on every server. Beyond it a new one takes the
/// place of its Job's oldest, and of a Job without any it is only counted.
pub const DECISIONS_MAX: usize = 200_000;

/// Decisions of one kind and one moment that are kept one by one; more are counted with the last of them.
pub const DECISIONS_ALIKE_MAX: usize = 8;

/// Bytes of what is said of one decision; longer ones are cut.
pub const DECISION_MESSAGE_BYTES_MAX: usize = 512;

/// Pods of one Job that an explanation looks at: it is made while nothing can be applied.
pub const PODS_LOOKED_AT_MAX: usize = 10_000;

/// Waiting Pods that are counted to find a Pod's place among them.
pub const PODS_AHEAD_COUNTED_MAX: usize = 10_000;

/// Pods that an explanation calls by their names, of each kind.
pub const PODS_NAMED_MAX: usize = 3;

/// Unfinished Jobs, and Pods, among which an overview looks for the newest.
pub const OVERVIEW_LOOKED_AT_MAX: usize = 20_000;

/// How long a deleted Job's request id is remembered (decision 10).
pub const TOMBSTONE_RETENTION_MS: i64 = 600_000;

/// Request ids of deleted Jobs remembered; beyond it the oldest goes.
pub const TOMBSTONES_MAX: usize = 65_536;

/// Further names under which a create looks for what the same request has made before.
pub const OTHER_NAMES_MAX: usize = 7;

/// Bytes of a request id.
pub const REQUEST_ID_BYTES_MAX: usize = 256;

/// First Pods, in scheduling order, of those alike that are told why they can't be placed. Rows of the others are not
/// rewritten: they wait for the same reason.
pub const PODS_EXPLAINED_PER_CLASS: usize = 8;

/// Sets of Pods alike that one entry explains.
pub const CLASSES_EXPLAINED_PER_ENTRY_MAX: usize = 64;

/// P9: first delay of a restart in place, if the Job sets no other (D4).
pub const RESTART_BACKOFF_BASE_MS: u64 = 10_000;

/// P9: longest delay of a restart in place, if the Job sets no other (D4).
pub const RESTART_BACKOFF_CAP_MS: u64 = 300_000;

/// P9: a container that ran so long starts over with the first delay.
pub const RESTART_BACKOFF_RESET_MS: i64 = 600_000;

/// J50: first delay after a failure, as defaulting fills it in.
pub const BACKOFF_BASE_DEFAULT_MS: u64 = 10_000;

/// J50: longest delay after a failure, as defaulting fills it in.
pub const BACKOFF_CAP_DEFAULT_MS: u64 = 600_000;

/// P6: grace of a Pod whose template says nothing.
pub const GRACE_DEFAULT_SECONDS: u32 = 30;

/// P7: from the stop signal to SIGKILL of a sidecar whose turn comes when the Pod's grace is over; less if that is less.
pub const LAST_GRACE_MS: u64 = 2_000;

/// Grace that anybody may ask for: a year.
pub const GRACE_SECONDS_MAX: u32 = 31_536_000;

/// How often a name that is taken is replaced by the next one (J40).
pub const NAME_ATTEMPTS_MAX: u32 = 64;

/// J40: bytes of the part of a Pod's name before the suffix.
pub const POD_NAME_PREFIX_BYTES_MAX: usize = 58;

/// Nodes that fit and are looked at for one that is better in itself, such as one that enforces limits: in a large cluster
/// of nodes that are none the better, each further look would find nothing.
pub const FITTING_NODES_COMPARED_MAX: usize = 64;

/// Nodes that the reason why a Pod waits calls by their names.
pub const NODES_NAMED_MAX: usize = 3;
