//! The limits of this crate, each with its reason.

use std::time::Duration;

/// Bytes of a file of settings: it is a page or two; what is larger is another file.
pub const SETTINGS_FILE_BYTES_MAX: u64 = 1 << 20;

/// Connections to the port of metrics at once: a few scrapers and probes. One more closes the oldest.
pub const METRICS_CONNECTIONS_MAX: usize = 32;

/// How long a connection to the port of metrics may last: a scrape is one request.
pub const METRICS_CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a request for metrics may take to arrive.
pub const METRICS_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long those who are asked for metrics or health may take; one that takes longer is stuck.
pub const METRICS_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after the system has refused a connection to the port of metrics, mostly for want of descriptors.
pub const METRICS_ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Lines of the log that wait for stderr: a burst, and some 200 KiB.
pub const LOG_LINES_WAITING_MAX: usize = 1_024;

/// How long the end of the process waits for them.
pub const LOG_LAST_LINES_TIMEOUT: Duration = Duration::from_millis(300);

/// Spans that wait for the collector: some MiB, and what a few hundred Pods a second tell while a collector starts anew. What has no
/// room is dropped, and counted.
pub const SPANS_WAITING_MAX: usize = 4_096;

/// Spans of one message to the collector: some hundred KiB, far below the 4 MiB that collectors take by default.
pub const SPANS_PER_EXPORT_MAX: usize = 512;

/// How long a span waits for others before it is exported.
pub const SPANS_EXPORT_INTERVAL: Duration = Duration::from_secs(2);

/// How long a collector may take to be connected to, and to answer; then what it was sent is given up.
pub const SPANS_EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the end of the process waits for its last spans to be exported.
pub const SPANS_LAST_EXPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long it is not told again that spans can't be exported, if that changes all the time.
pub const SPANS_PROBLEM_REPEAT: Duration = Duration::from_secs(600);
