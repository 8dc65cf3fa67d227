//! Limits of the agent.
//!
//! Owns: the numbers. Does not own: lease numbers (crate `lease`), limits of the wire (crate `proto`), of log files (crate `runtime`).

use std::time::Duration;

/// The journal is written anew when it is longer than this and mostly history.
pub const JOURNAL_COMPACT_BYTES: u64 = 1 << 20;
/// Folders of Pods that have ended that are removed at a stretch.
pub const REMOVALS_TOGETHER_MAX: usize = 64;
/// Pods that end, until memory that they have left free is given back to the system: some megabytes, when many began together.
pub const PODS_PER_MEMORY_GIVEN_BACK: usize = 100;
/// Pods that the agent holds at once, those whose logs it keeps not included.
pub const PODS_HELD_MAX: usize = 10_000;
/// Reports sent and not acknowledged; further ones wait.
pub const REPORTS_IN_FLIGHT_MAX: usize = 1_024;
/// Messages of reports without acknowledgement. A server commits one after the other, so a second keeps it busy while the
/// answer to the first travels; what comes meanwhile goes together into the next.
pub const REPORT_MESSAGES_IN_FLIGHT_MAX: usize = 2;
/// For each Pod that is beginning, and so has news before long, reports wait so long for others: at a server, a message costs
/// more than the reports in it. A Pod that begins alone waits for nothing.
pub const REPORTS_GATHERED_PER_POD: Duration = Duration::from_millis(1);
/// Longest such wait, from one message to the next.
pub const REPORTS_GATHERED_MAX: Duration = Duration::from_millis(20);
/// Reports in one message.
pub const REPORTS_PER_MESSAGE_MAX: usize = 256;
/// Messages queued for the stream, those of logs not included.
pub const OUTGOING_MESSAGES_MAX: usize = 256;
/// Messages of logs queued for the stream, which wait behind all others.
pub const OUTGOING_LOG_MESSAGES_MAX: usize = 8;
/// Messages received and not looked at yet.
pub const INCOMING_MESSAGES_MAX: usize = 64;
/// Logs that are read for servers at once.
pub const LOG_READERS_MAX: usize = 64;
/// Messages with pieces of one log that its reader has not taken; servers keep four times as many waiting.
pub const LOG_MESSAGES_IN_FLIGHT_MAX: usize = 1_024;
/// Bytes of one piece of a log.
pub const LOG_CHUNK_BYTES_MAX: usize = 64 << 10;
/// Data folders of agents on one host: each has a range of users, of which there are no more by default.
pub const HOST_NODES_MAX: usize = 1_000;
/// Nodes whose folders are gone that one start of an agent clears away after.
pub const HOST_NODES_FORGOTTEN_MAX: usize = 50;
/// How long connecting to one server may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_000);
/// How long the first answer of a session may take.
pub const ANSWER_TIMEOUT: Duration = Duration::from_millis(3_000);
/// Least patience with a server that has said nothing yet, while a lease is held.
pub const FIRST_ANSWER_PATIENCE_MIN: Duration = Duration::from_millis(1_000);
/// Pause before the same servers are tried again (agent-protocol: agents reconnect within 200 ms).
pub const RECONNECT_PAUSE: Duration = Duration::from_millis(150);
/// Heartbeats between two questions for the desired set.
pub const HEARTBEATS_PER_DESIRED_SET: u64 = 3;
/// Ends of runs after which the desired set is asked for out of turn: until a set leaves them out, ended Pods are held, with
/// some 10 KiB of memory and their folders.
pub const ENDS_PER_DESIRED_SET: usize = 20;
/// Least pause before that: an answer costs the servers a round among them, and a look at all Pods of the node.
pub const DESIRED_SET_PAUSE_MIN: Duration = Duration::from_millis(1_000);
/// Ended Pods asked about at once (A8).
pub const ENDED_PODS_ASKED_MAX: usize = 1_000;
/// Pods of which the servers look again at once what they refer to, such as a ConfigMap that was not there.
pub const REFERENCES_ASKED_MAX: usize = 100;
/// Orders that a server may send before it is given more.
pub const ORDER_CREDITS: u32 = 256;
/// Bytes of one message of the session.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// How long the agent sleeps at most: timers of the system stand still while the host sleeps, leases do not.
pub const SLEEP_MAX: Duration = Duration::from_millis(200);
/// How long an agent that starts waits for the end of one that has its folder, and how often it looks.
pub const FOLDER_LOCK_PATIENCE: Duration = Duration::from_millis(1_000);
/// See [`FOLDER_LOCK_PATIENCE`].
pub const FOLDER_LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Grace of Pods when the agent is asked to stop, if their own is not shorter.
pub const STOP_GRACE_MAX: Duration = Duration::from_secs(5);
/// How long an agent that ends waits for the acknowledgement of what it has told.
pub const ACKNOWLEDGEMENT_PATIENCE: Duration = Duration::from_millis(1_000);
/// How long an agent that stops waits until what containers of a Pod shared is removed, such as a sandbox of an engine.
pub const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// How long an agent that stops tries to hand its Pods over.
pub const HAND_OVER_TIMEOUT: Duration = Duration::from_millis(2_000);
/// How long an agent that stops waits until the servers have the last output of what it has ended.
pub const LAST_TAILS_TIMEOUT: Duration = Duration::from_millis(3_000);
/// How long after the agent itself the runtime's fence kills, while less than the slack of the shortest lease.
pub const FENCE_DELAY: Duration = Duration::from_millis(250);
/// After this the same problem is worth another line of the log.
pub const PROBLEM_REPEAT: Duration = Duration::from_secs(60);
/// Different problems that are remembered as said.
pub const PROBLEMS_MAX: usize = 32;
/// How often an agent goes straight on to the server that another one calls leader, before it pauses.
pub const REDIRECTS_MAX: u32 = 3;
/// Pause between two tries to write a journal that has no room.
pub const JOURNAL_FULL_RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Reports in one registration, and bytes of them before their messages for people are left out: it is one message.
pub const REGISTRATION_REPORTS_MAX: usize = 10_000;
/// See [`REGISTRATION_REPORTS_MAX`].
pub const REGISTRATION_REPORTS_BYTES_MAX: usize = 2 << 20;
/// Bytes of a message about the end of a container.
pub const END_MESSAGE_BYTES_MAX: usize = TERMINATION_MESSAGE_BYTES_MAX;
/// Addresses of servers that an agent remembers, those it was started with not included.
pub const SERVER_ADDRESSES_MAX: usize = 16;
/// First pause after an image could not be fetched; it doubles up to [`BACK_OFF_MAX`] (as in Kubernetes).
pub const IMAGE_BACK_OFF_MIN: Duration = Duration::from_secs(10);
/// First pause after what the containers of a Pod share could not be made; it doubles up to [`BACK_OFF_MAX`].
pub const SANDBOX_BACK_OFF_MIN: Duration = Duration::from_secs(1);
/// First pause after a container could not be started for lack of something on the node; it doubles up to
/// [`START_BACK_OFF_MAX`].
pub const START_BACK_OFF_MIN: Duration = Duration::from_secs(1);
/// Longest such pause: what was lacking may be there as soon as another container ends.
pub const START_BACK_OFF_MAX: Duration = Duration::from_secs(10);
/// Longest pause between two tries.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(300);
/// How long it is said why an image could not be fetched, before it is said that the next try is waited for.
pub const IMAGE_PROBLEM_SHOWN: Duration = Duration::from_secs(5);
/// From the stop signal to SIGKILL of a container whose turn had not come when its Pod's grace was over, or whose preStop hook
/// has used it up (P6).
pub const LAST_GRACE: Duration = Duration::from_secs(2);
/// Of what a hook or probe says when it fails.
pub const ACTION_OUTPUT_BYTES_MAX: u64 = 512;
/// How long what a hook or probe has said is waited for once it has ended: what it left behind may hold its output open.
pub const ACTION_OUTPUT_PATIENCE: Duration = Duration::from_millis(200);
/// How long the end of a container is waited for after a program in it was killed: what was killed with it has not failed.
pub const ACTION_END_PATIENCE: Duration = Duration::from_secs(5);
/// Of a time limit of a probe that is none.
pub const PROBE_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// Of the name that a Pod's containers call their host (the kernel's limit is 64).
pub const HOSTNAME_BYTES_MAX: usize = 63;
/// Of what a container leaves as its last words (P12).
pub const TERMINATION_MESSAGE_BYTES_MAX: usize = 4_096;
/// Of a log that stands for them, and its lines (P12).
pub const TERMINATION_LOG_BYTES_MAX: usize = 2_048;
/// See [`TERMINATION_LOG_BYTES_MAX`].
pub const TERMINATION_LOG_LINES_MAX: u64 = 80;
/// Commands and connections that are open for servers at once.
pub const CHANNELS_MAX: usize = 64;
/// Pieces of input of one channel that wait: as many as the credit of the wire lets come, the end of the input included.
pub const CHANNEL_INPUTS_QUEUED_MAX: usize = 1_026;
/// How long it may take until a command runs in its container.
pub const EXEC_START_TIMEOUT: Duration = Duration::from_secs(8);
/// How long after the last output of a container whose streams a caller has its end may take to be known, before that caller is
/// told that it was let go; and how long after its end output may be on its way from an engine that is slow. A disk may hang
/// for as long.
pub const ATTACH_END_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that are read of a command or a connection at once.
pub const EXEC_READ_BYTES: usize = 32 << 10;
/// How long after a command's end those that it left behind may be silent before nothing more is read.
pub const EXEC_LEFT_OVER_PATIENCE: Duration = Duration::from_secs(1);
/// Over how long the use of CPU is measured.
pub const USAGE_WINDOW: Duration = Duration::from_secs(1);
/// Least pause between two looks at what a Pod takes of the disk.
pub const DISK_LOOK_PAUSE_MIN: Duration = Duration::from_secs(2);
/// Longest such pause.
pub const DISK_LOOK_PAUSE_MAX: Duration = Duration::from_secs(300);
/// The pause is so many times as long as the look before it: a Pod with many files costs its node a fiftieth of a processor.
pub const DISK_LOOK_SHARE: u32 = 50;
/// So many times as long as a look nobody else is looked at: all Pods together cost their node a fifth of a processor.
pub const DISK_LOOKS_SHARE: u32 = 4;
/// Below which a node says that it is short: percent of a disk that are free, bytes of memory that are available. As the
/// kubelet's hard eviction thresholds `nodefs.available` and `memory.available`.
///
/// Ten percent of a large disk would be wasted on nobody: what is asked to be free by default is never more than
/// [`FREE_DISK_MAX_DEFAULT`].
pub const PRESSURE_DEFAULT: (u8, u64) = (10, 100 << 20);
/// Most bytes of a disk that must be free unless the operator says otherwise: what one Pod may take by default.
pub const FREE_DISK_MAX_DEFAULT: u64 = 10 << 30;
/// Highest percentage of a disk that may be asked to be free.
pub const PRESSURE_DISK_PERCENT_MAX: u8 = 75;
/// Percent of the files that a disk can have, and still takes, below which it is nearly full (the kubelet's
/// `nodefs.inodesFree`).
pub const FREE_FILES_PERCENT_MIN: u8 = 5;
/// A pressure ends when there is so much of its threshold again, in percent.
pub const PRESSURE_CLEAR_PERCENT: u8 = 125;
/// And when that was so for this long.
pub const PRESSURE_CLEAR_AFTER: Duration = Duration::from_secs(10);
/// Pause between two looks at disks, memory and runtimes.
pub const CONDITIONS_INTERVAL: Duration = Duration::from_secs(5);
/// How long the acknowledgement of what the node is like is waited for, before it is said again.
pub const CONDITIONS_ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// How long what was measured is answered again.
pub const USAGE_FRESH: Duration = Duration::from_secs(2);
/// Bytes of one word of what the agent says of its host: the servers take no more.
pub const NODE_WORD_BYTES_MAX: usize = 128;
/// Pause after which the same is told of a Pod again; it doubles each time.
pub const NOTICE_PAUSE_MIN: Duration = Duration::from_secs(30);
/// Longest such pause.
pub const NOTICE_PAUSE_MAX: Duration = Duration::from_secs(900);
/// Bytes of the host's own `/etc/hosts` that a Pod gets.
pub const HOSTS_BYTES_MAX: u64 = 1 << 20;
/// What one Pod tells of, each with a pause of its own: all probes and hooks of some ten containers.
pub const NOTICE_SUBJECTS_MAX: usize = 64;
/// A pull that takes longer is told while it goes on, and when it is done.
pub const PULL_NOTICE_AFTER: Duration = Duration::from_secs(1);
/// How often new output of containers that run is sent to the servers.
pub const LOG_TAIL_INTERVAL: Duration = Duration::from_secs(10);
/// How long an end of a container waits for others, before its log is looked at.
pub const LOG_TAIL_GATHER: Duration = Duration::from_millis(100);
/// Tails of logs that wait to be sent; beyond it the oldest is left to the next agent.
pub const LOG_TAILS_WAITING_MAX: usize = 20_000;
/// Pause before a tail is sent again whose Pod the server does not know yet.
pub const LOG_TAIL_LATER_PAUSE: Duration = Duration::from_secs(30);
/// How long the answer to tails is waited for, before they are offered again.
pub const LOG_TAIL_ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// How long an offer of tails stands, before it is said again: the servers may have been busy, and have dropped it.
pub const LOG_TAIL_OFFER_PATIENCE: Duration = Duration::from_secs(20);
/// Logs that are uploaded to the archive at once; of each one part is in memory.
pub const LOG_UPLOADS_MAX: usize = 4;
/// How long uploading one log may take.
pub const LOG_UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);
/// First pause after a log could not be uploaded; it doubles up to [`BACK_OFF_MAX`].
pub const LOG_UPLOAD_PAUSE_MIN: Duration = Duration::from_secs(1);
/// Logs that wait to be uploaded; beyond it the oldest is left to the next agent.
pub const LOG_UPLOADS_WAITING_MAX: usize = 100_000;

/// How old the size of the logs may be that metrics tell: there can be as many files as the node keeps ended Pods.
pub const LOG_SIZE_FRESH: Duration = Duration::from_secs(60);
/// How long who reads metrics waits for that size: less than a scraper waits for all figures.
pub const LOG_SIZE_PATIENCE: Duration = Duration::from_secs(2);
