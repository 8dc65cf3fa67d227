//! Every limit of this crate, with its reason.

/// Command, arguments and environment of one container. Linux refuses more than 2 MiB with the usual stack limit, so
/// nothing that could run is refused here.
pub const SPEC_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Containers being started at once. Each needs four descriptors while it starts and two while it runs.
pub const STARTS_CONCURRENT_MAX: usize = 64;

/// Threads for short work of one kind. It waits for locks of the kernel more than for processors: more of them would only wait
/// too. One or two that a slow disk holds up leave others.
pub const SHORT_WORK_THREADS: usize = 4;

/// Containers that an engine is asked to start at once. Each start is several processes of the engine: more of them at once
/// only make each take longer than a lease lasts.
pub const ENGINE_STARTS_CONCURRENT_MAX: usize = 8;

/// Bytes of one message between agent and shim: what is to be run, with a length of four bytes before each text, which may be
/// empty.
pub const SHIM_MESSAGE_BYTES_MAX: usize = SPEC_BYTES_MAX * 8;

/// Agents that wait to be answered by one shim: there is one, and maybe the one before.
pub const SHIM_BACKLOG: i32 = 8;

/// Programs run at once in a container besides its own. Each is a process, and up to four descriptors of the shim.
pub const EXECS_PER_CONTAINER_MAX: usize = 64;

/// Clients of a container's own streams at once. Each is two descriptors of the shim.
pub const ATTACHES_PER_CONTAINER_MAX: usize = 16;

/// How long a container's output waits for a client that takes none of it, before that client is let go: longer than a network
/// stalls on a good day. Its log waits as long.
pub const ATTACH_PATIENCE_MS: u64 = 5_000;

/// How long a shim, or an engine, may take to answer whether a client can have a container's streams: less than servers wait.
pub const ATTACH_ANSWER_MS: u64 = 7_000;

/// Bytes of a client's input that wait in the agent until the container takes them.
pub const ATTACH_INPUT_BYTES: usize = 16 * 1024;

/// How long after the other end of a terminal was found closed it is read once more. Kernels were seen to have the last output a
/// fraction of a millisecond later; nobody notices this much at the end of a session.
pub const TERMINAL_SECOND_LOOK: std::time::Duration = std::time::Duration::from_millis(20);

/// How often a shim that knows no deadline looks for one, and one that keeps an end whether an agent can still find it.
pub const DEADLINE_LOOK_MS: u64 = 5_000;

/// How long a shim keeps the end of its container while no agent is there, counted from the end or from the deadline, whichever
/// is later. After the deadline the servers count the Pod as lost: what is kept is the truth for people only.
pub const EXIT_KEPT_MS: u64 = 600_000;

/// How long a shim that an agent wants to adopt may take to say who it is, on a starved machine. One that does not is killed.
pub const ADOPTION_MS: u64 = 5_000;

/// Shims that are asked at once who they are.
pub const ADOPTIONS_CONCURRENT_MAX: usize = 32;

/// How long a shim may take to carry out a kill before it is killed itself, which ends its namespace, and the log with it: half
/// of the kill budget of the shortest leases.
pub const SHIM_KILL_MS: u64 = 500;

/// Stack of a shim's thread that writes the log. Pages that are not touched cost nothing.
pub const LOG_THREAD_STACK_BYTES: usize = 128 * 1024;

/// How long a shim waits until it tries again to make that thread, which the system has refused.
pub const LOG_THREAD_RETRY_MS: u64 = 100;

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

/// Bytes of output made entries of at once. An empty line of one byte becomes an entry of 43, and shims are to stay small.
pub const OUTPUT_WRITE_BYTES_MAX: usize = 8 * 1024;

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

/// How often a reader that follows a log looks for more of it: people see it as at once, and it costs a read of nothing. Not
/// inotify: of its instances a user has 128 on most hosts, which Pods of the same user can use up; some file systems tell nothing
/// of what others write; and with or without it, readers are bounded and have to look for the next file after a rotation.
pub const LOG_FOLLOW_MS: u64 = 50;

/// Bytes of log files that a reader takes at once, and so the most that one chunk holds: what is returned of an entry is
/// never longer than the entry. Chunks fit into one message of the agent's session, so that each has an offset of its own.
pub const LOG_READ_BYTES_MAX: usize = 64 * 1024;

/// Bytes that a reader takes at once when it looks for the last lines.
pub const LOG_TAIL_BLOCK_BYTES: usize = 64 * 1024;

/// Bytes of a manifest or index: what registries accept at most.
pub const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of an image's config, which is held in memory.
pub const IMAGE_CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Layers of an image: so many names fit into the one page that overlayfs takes.
pub const IMAGE_LAYERS_MAX: usize = 127;

/// Bytes of a layer as it is sent.
pub const LAYER_BLOB_BYTES_MAX: u64 = 32 * 1024 * 1024 * 1024;

/// Bytes of a layer's files. A few kilobytes can unpack to any number of zeros.
pub const LAYER_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// Files of a layer, each of which takes an inode.
pub const LAYER_ENTRIES_MAX: u64 = 4_000_000;

/// Bytes that names and attributes of one file of a layer may take, which are held in memory.
pub const LAYER_ENTRY_HEADER_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Bytes after the end of an archive, which some tools fill up to the size of a tape's block.
pub const LAYER_PADDING_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Latest time of a layer's file, in the year 2242: more than file systems can hold would be an error.
pub const LAYER_TIME_SECONDS_MAX: i64 = 1 << 33;

/// Layers of one image that are pulled at once.
pub const LAYERS_PER_PULL_MAX: usize = 3;

/// Layers of all images that are pulled at once: each takes a processor while it is unpacked.
pub const LAYER_PULLS_CONCURRENT_MAX: usize = 4;

/// Bytes gathered before they are written to a file, for each download.
pub const DOWNLOAD_BUFFER_BYTES: usize = 1024 * 1024;

/// A layer that no image has is kept so long for the next try of the pull that wanted it.
pub const LAYER_WITHOUT_IMAGE_MS: u64 = 60 * 60 * 1000;

/// Bytes that a pull leaves free on the disk, so that the agent and its Pods can go on.
pub const STORE_FREE_BYTES_MIN: u64 = 128 * 1024 * 1024;

/// How often it is looked whether images must be removed, as with kubelets.
pub const COLLECTION_INTERVAL_MS: u64 = 5 * 60 * 1000;

/// How long a connection to a registry may take.
pub const REGISTRY_CONNECT_MS: u64 = 10_000;

/// How long a registry may be silent in the middle of an answer.
pub const REGISTRY_READ_MS: u64 = 60_000;

/// How long the answer to a question for a manifest may take, with authentication.
pub const REGISTRY_MANIFEST_MS: u64 = 90_000;

/// Bytes of a file with credentials.
pub const CREDENTIALS_BYTES_MAX: u64 = 1024 * 1024;

/// Platforms that a message names when an image is not there for this one.
pub const SHOWN_PLATFORMS_MAX: usize = 10;
/// How often the guard of the runtime `cri` looks for processes that appear after the lease has run out.
pub const GUARD_PASS_MS: u64 = 50;

/// How often the guard looks whether a moment was named, as long as it is never.
pub const GUARD_LOOK_MS: u64 = 500;

/// How long a guard whose agent is gone stays after the last process was killed: an engine that was stopped may still carry out
/// what it was told before.
pub const GUARD_LINGER_MS: u64 = 60_000;

/// How long a fresh guard may take to say that it is ready, on a starved machine.
pub const GUARD_HELLO_MS: u64 = 20_000;

/// Pause between two tries to start a guard.
pub const GUARD_RESTART_MS: u64 = 500;

/// A container that was killed within so long before or after a guard's kills was killed by it: an engine notes an end when it
/// hears of it, which takes seconds on a busy host.
pub const FENCE_CLOCK_MS: u64 = 10_000;

/// How long a container engine may take to answer what it need not work for.
pub const ENGINE_CALL_MS: u64 = 10_000;

/// How long an engine may take to make a sandbox or a container: it unpacks files and starts programs, on a busy disk.
pub const ENGINE_SANDBOX_MS: u64 = 120_000;

/// How long an engine may take to stop or remove something.
pub const ENGINE_STOP_MS: u64 = 60_000;

/// How long an engine may take to fetch an image.
pub const IMAGE_PULL_MS: u64 = 30 * 60_000;

/// Bytes of an engine's answer: the list of all containers, of a node with thousands of them, ended ones included.
pub const ENGINE_ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Characters of an engine's message that are passed on.
pub const ENGINE_MESSAGE_CHARS_MAX: usize = 1024;

/// How long an agent that starts waits for the engine's answer, before it goes on without: leases run meanwhile.
pub const ENGINE_MEET_MS: u64 = 3_000;

/// First and longest pause between two tries to meet an engine that is not up.
pub const ENGINE_MEET_PAUSE_MS: (u64, u64) = (500, 10_000);

/// How many containers of an earlier agent an engine is asked about at once.
pub const ENGINE_LOOKS_CONCURRENT_MAX: usize = 32;

/// How long an agent that starts waits for what becomes of a container that its engine was starting for an earlier one.
pub const ENGINE_SETTLE_MS: u64 = 4_000;

/// Pause between two looks at it.
pub const ENGINE_SETTLE_PAUSE_MS: u64 = 100;

/// How long starts that an agent has asked for may still take when it is gone: what is left of a busy host's.
pub const RELAY_LINGER_MS: u64 = 30_000;

/// How often an engine is asked how it is.
pub const ENGINE_LOOK_MS: u64 = 5_000;

/// How often an engine is asked for the state of all containers, as a second line behind faster news.
pub const ENGINE_LIST_MS: u64 = 1_000;

/// First and longest pause between two questions about a container that has just ended.
pub const ENGINE_END_PAUSE_MS: (u64, u64) = (5, 500);

/// How long after the start it is looked for what is nobody's in the engine, and looked again when something was found.
pub const ENGINE_SECOND_LOOK_MS: u64 = 5_000;

/// How often what an engine left, and images, are looked at.
pub const ENGINE_COLLECT_MS: u64 = 60_000;

/// How often the sizes of log files that an engine writes are looked at. A flood exceeds the limit of a file by as much as
/// arrives in between.
pub const LOG_SIZE_LOOK_MS: u64 = 250;

/// How long a log file is waited for until the engine has closed it.
pub const LOG_CLOSE_MS: u64 = 10_000;

/// How long what is to be killed is killed again, before the caller is told that it is gone all the same.
pub const KILL_PATIENCE_MS: u64 = 60_000;

/// Bytes of a reference to an image: registries take no more for a name, and a digest and a tag come to it.
pub const IMAGE_REFERENCE_BYTES_MAX: usize = 512;

/// An image that was asked for within so long is not given up: its container may be about to be made.
pub const IMAGE_UNUSED_MS: u64 = 120_000;

/// Percent of the disk of images in use above which unused ones are removed, and at which that stops, by default.
pub const IMAGE_DISK_PERCENT_DEFAULT: (u8, u8) = (85, 80);

/// How long after the end of a container its engine may hear that the kernel killed it for its memory.
pub const OOM_NEWS_MS: u64 = 100;

/// How often an engine is asked whether it has heard of that by now.
pub const OOM_NEWS_TRIES_MAX: u32 = 5;

/// How long an engine may be silent about the end of a container that was killed, before that is told without it.
pub const ENGINE_SILENCE_MS: u64 = 5_000;

/// Pause between two tries to have an engine remove something.
pub const ENGINE_RETRY_MS: u64 = 500;

/// Tries to have an engine remove a sandbox before its refusal is passed on.
pub const ENGINE_REMOVE_TRIES_MAX: u32 = 10;

/// How often what an engine starts of a container that is not to run is killed, until the engine has removed it.
pub const CONDEMNED_PASS_MS: u64 = 50;

/// Runs of a container whose logs are kept until an archive has them, beside the last one and the one before it: enough for an
/// archive that does not answer for a while, and few enough for a disk.
pub const LOG_RUNS_UNARCHIVED_MAX: u32 = 8;

/// Folders that an image may want to be made: far more than any needs.
pub const IMAGE_VOLUMES_MAX: usize = 256;

/// What the kernel adds to the score of a container's processes, in thousandths of all memory, when it looks for what to kill: they
/// go before the agent, its shims and the host's own services, whatever those have.
pub const OOM_SCORE: i64 = 500;

/// Processes and threads of a container, unless the node's policy says something else: far more than a batch program needs,
/// far fewer than a host has ids for.
pub const PROCESSES_PER_CONTAINER_DEFAULT: u64 = 4096;

/// Entries that one look at the size of a folder sees: some seconds of work on a cold disk.
pub const DISK_ENTRIES_MAX: u64 = 1_000_000;

/// Descriptors and mappings of a Pod's processes that one look for deleted files sees: some seconds of work.
pub const HELD_FILES_MAX: usize = 1_000_000;

/// First of the users that Pods get, by default: those of hosts, directories and user namespaces are below, and the numbers that
/// some programs take for negative ones are above all of them.
pub const POD_UIDS_FIRST: u32 = 2_000_000_000;

/// How many users there are for the Pods of an agent, by default: far more than a node has Pods at once.
pub const POD_UIDS_COUNT: u32 = 65_536;

/// How many such ranges there are, one after the other: agents of one host take one each.
pub const POD_UIDS_RANGES_MAX: u32 = 1_000;

/// Levels of control groups below the parent of an agent's groups, at most: of Pods, of containers, of what is made in those.
pub const CONTROL_GROUP_LEVELS_MAX: usize = 8;

/// Bytes of an image's list of users, and of its list of groups.
pub const IMAGE_ACCOUNTS_BYTES_MAX: u64 = 1024 * 1024;

/// Groups that an image may put a user into.
pub const IMAGE_GROUPS_MAX: usize = 1024;

/// Bytes of the head of an answer of an engine's streaming server: a status and a few names.
pub const STREAMING_HEAD_BYTES_MAX: usize = 8 * 1024;

/// Bytes that an engine says about the end of a program, and of any other word of its protocol: a few hundred, usually.
pub const STREAMING_STATUS_BYTES_MAX: usize = 64 * 1024;

/// Bytes that wait between a connection to an engine and who reads or writes a stream: what a pipe takes.
pub const STREAMING_PIPE_BYTES: usize = 64 * 1024;

/// Bytes of input that are sent to an engine at once.
pub const STREAMING_PIECE_BYTES: usize = 16 * 1024;

/// Pings and sizes of a terminal that wait until they can be sent.
pub const STREAMING_WORDS_WAITING_MAX: usize = 8;

/// Milliseconds between two looks for the process of a program that an engine starts: at first, and at most.
pub const EXEC_LOOK_MS: (u64, u64) = (10, 200);

/// After this, a program whose process was not found is taken for one that can't be found.
pub const EXEC_FIND_MS: u64 = 10_000;

/// How long the engine is waited for after a program was killed.
pub const EXEC_KILL_MS: u64 = 5_000;

/// Milliseconds that connecting to a port of a Pod may take, for each of its loopback addresses.
pub const PORT_CONNECT_MS: u64 = 3_000;
