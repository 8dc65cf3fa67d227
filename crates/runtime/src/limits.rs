//! Every limit of this crate, with its reason.

/// Command, arguments and environment of one container. Linux refuses more than 2 MiB with the usual stack limit, so
/// nothing that could run is refused here.
pub const SPEC_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Containers being started at once. Each needs seven descriptors while it starts and four while it runs.
pub const STARTS_CONCURRENT_MAX: usize = 64;

/// How long a fresh shim program may take to say what it can do, on a starved machine.
pub const SHIM_HELLO_MS: u64 = 20_000;

/// How long killed processes are waited for if the kernel can't tell of their end (Linux before 5.3): the worst case
/// of the lease protocol's kill budget.
pub const KILL_CONFIRM_MS: u64 = 2_000;

/// Signals for one container on their way to its shim; further ones are dropped.
pub const SIGNALS_WAITING_MAX: usize = 16;

/// Pause between two passes of the degraded kill loop while processes are still dying.
pub const KILL_LOOP_PAUSE_MS: u64 = 2;

/// Characters of a program's name in messages about its start.
pub const SHOWN_PROGRAM_CHARS_MAX: usize = 256;

/// Bytes taken from an output pipe at once: the size of a pipe.
pub const OUTPUT_READ_BYTES_MAX: usize = 64 * 1024;

/// Bytes read per pipe after the container has ended. All of it was in the pipe then; root may have grown the pipe
/// above 1 MiB, and a descriptor passed to a stranger may go on being written to.
pub const OUTPUT_DRAIN_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of a line in one log entry; longer lines are split, as container engines do.
pub const LOG_LINE_BYTES_MAX: usize = 16 * 1024;

/// An unfinished line is written after so long without its end, so that prompts and progress bars can be followed.
pub const LOG_PARTIAL_MS: u64 = 250;

/// Size of one log file before the next is begun, by default.
pub const LOG_FILE_BYTES_DEFAULT: u64 = 10 * 1024 * 1024;

/// Least size of a log file: some entries must fit.
pub const LOG_FILE_BYTES_MIN: u64 = 64 * 1024;

/// Files kept per container and restart, by default.
pub const LOG_FILES_DEFAULT: usize = 5;

/// Batches waiting for the thread that writes log files. Each container has at most one there, so this bounds
/// nothing but the queue's own memory.
pub const LOG_QUEUE_BATCHES_MAX: usize = 256;

/// Bytes of log files that a reader takes at once, and so the most that one chunk holds: what is returned of an entry is
/// never longer than the entry. Chunks fit into one message of the agent's session, so that each has an offset of its own.
pub const LOG_READ_BYTES_MAX: usize = 64 * 1024;

/// Bytes that a reader takes at once when it looks for the last lines.
pub const LOG_TAIL_BLOCK_BYTES: usize = 64 * 1024;
