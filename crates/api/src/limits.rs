//! Limits of what people may ask for.
//!
//! Owns: the numbers. Does not own: limits of the cluster as a whole (crate `core`), of messages (crate `proto`).

/// A DNS label: names of containers and namespaces, hostnames of Pods (RFC 1123).
pub const DNS_LABEL_BYTES_MAX: usize = 63;
/// A DNS subdomain: names of Jobs and nodes (RFC 1123).
pub const DNS_SUBDOMAIN_BYTES_MAX: usize = 253;
/// The name part of a label's key, and a label's value.
pub const LABEL_PART_BYTES_MAX: usize = 63;
/// All annotations of an object together.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;
/// Everything that people wrote of a Job: it is in every server's log and memory while the Job is unfinished.
pub const JOB_BYTES_MAX: usize = 256 << 10;
/// Completions of a Job: index sets are kept in memory.
pub const COMPLETIONS_MAX: i32 = 1_000_000;
/// Parallelism of an Indexed Job (V9).
pub const INDEXED_PARALLELISM_MAX: i32 = 100_000;
/// `managedBy` (V6).
pub const MANAGED_BY_BYTES_MAX: usize = 63;
/// Longest grace: a stopping Pod holds its place for so long.
pub const GRACE_PERIOD_SECONDS_MAX: i64 = 7 * 24 * 3600;
/// Longest back-off base or cap (D4), in milliseconds: a day.
pub const BACKOFF_MS_MAX: u64 = 24 * 3600 * 1000;
/// What a Pod may request, in thousandths of a core and in bytes: far more than any node has, and so little that what all
/// Pods of a node request can be added up.
pub const REQUEST_MAX: u64 = 1 << 50;
/// Priorities of Pods; above are Kubernetes' own.
pub const PRIORITY_MAX: i32 = 1_000_000_000;
/// Containers of a Pod, init containers included: each has a status that is kept in memory.
pub const CONTAINERS_MAX: usize = 64;
/// Volumes of a Pod.
pub const VOLUMES_MAX: usize = 64;
/// Sources of a projected volume.
pub const PROJECTIONS_MAX: usize = 64;
/// Mounts of a container.
pub const VOLUME_MOUNTS_MAX: usize = 128;
/// Restart rules of a container (P10).
pub const RESTART_RULES_MAX: usize = 20;
/// Exit codes of one rule.
pub const EXIT_CODES_MAX: usize = 255;
/// Supplemental groups of a Pod.
pub const SUPPLEMENTAL_GROUPS_MAX: usize = 256;
/// The largest user or group id that may be asked for.
pub const ID_MAX: i64 = i32::MAX as i64;
/// All values of a ConfigMap together.
pub const CONFIG_MAP_BYTES_MAX: usize = 1 << 20;
/// Keys of a ConfigMap: each becomes a file or a variable.
pub const CONFIG_MAP_KEYS_MAX: usize = 1024;
/// A key of a ConfigMap: it is the name of a file.
pub const CONFIG_MAP_KEY_BYTES_MAX: usize = 253;
/// Requirements of one label selector.
pub const SELECTOR_REQUIREMENTS_MAX: usize = 64;
/// Words in which a node tells what its Pods may ask for: every server keeps them in memory.
pub const NODE_FEATURES_MAX: usize = 128;
/// One of those words: it may be a path of the host.
pub const NODE_FEATURE_BYTES_MAX: usize = 512;
/// A quantity, as it is written.
pub const QUANTITY_BYTES_MAX: usize = 64;

/// D4: first back-off delay, in milliseconds.
pub const BACKOFF_BASE_MS_DEFAULT: u64 = 10_000;
/// D4: longest back-off delay, in milliseconds.
pub const BACKOFF_CAP_MS_DEFAULT: u64 = 600_000;
/// Failures beyond which a Job fails, by default.
pub const BACKOFF_LIMIT_DEFAULT: i32 = 6;
/// Seconds from SIGTERM to SIGKILL, by default (P6).
pub const GRACE_PERIOD_SECONDS_DEFAULT: i64 = 30;
/// Mode of files in volumes that name none: 0644.
pub const FILE_MODE_DEFAULT: i32 = 0o644;
/// Where a container leaves the message of its termination, by default (P12).
pub const TERMINATION_MESSAGE_PATH_DEFAULT: &str = "/dev/termination-log";
/// Seconds after which a run of a probe has failed, by default.
pub const PROBE_TIMEOUT_SECONDS_DEFAULT: i32 = 1;
/// Seconds between runs of a probe, by default.
pub const PROBE_PERIOD_SECONDS_DEFAULT: i32 = 10;
/// Successes in a row that make a failed probe succeed, by default.
pub const PROBE_SUCCESSES_DEFAULT: i32 = 1;
/// Failures in a row that make a probe fail, by default.
pub const PROBE_FAILURES_DEFAULT: i32 = 3;
/// The namespace of objects that name none.
pub const NAMESPACE_DEFAULT: &str = "default";
