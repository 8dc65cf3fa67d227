//! The limits of this crate, each with its reason.

use std::time::Duration;

/// Bytes of a file of settings: it is a page or two; what is larger is another file.
pub const SETTINGS_FILE_BYTES_MAX: u64 = 1 << 20;

/// Connections to the port of metrics at once: a few scrapers and probes.
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
