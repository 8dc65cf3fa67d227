/** Limits of the client: numbers only. They are those of the contract in sdk/README.md. */

/** Milliseconds that connecting to one server may take before the next is tried. */
export const CONNECT_TIMEOUT_MS = 1_500;
/** Milliseconds before the second round over all servers; doubled up to {@link RETRY_PAUSE_MAX_MS}. */
export const RETRY_PAUSE_FIRST_MS = 50;
/** Longest pause between two rounds, unless a server asks for a longer one. */
export const RETRY_PAUSE_MAX_MS = 1_000;
/** Longest pause that a server can ask for. */
export const RETRY_PAUSE_ASKED_MAX_MS = 10_000;
/** How long a call with all its attempts may take, unless the caller says otherwise. */
export const CALL_TIMEOUT_DEFAULT_MS = 15_000;
/** How long one attempt may take where there are other servers to ask, unless it must not be repeated. */
export const ATTEMPT_TIMEOUT_MS = 6_000;
/** A create is not repeated later than this after its first attempt: servers forget its request id later. */
export const CREATE_REPEAT_MAX_MS = 300_000;
/** Names that are tried where the servers make one that turns out to be taken. */
export const NAMES_MAX = 8;
/** A stream that brought nothing for so long counts as having worked, so that its end begins a new count. */
export const STREAM_HEALTHY_AFTER_MS = 1_000;
/** Between HTTP/2 pings, so that a server that vanished silently is noticed. */
export const KEEP_ALIVE_INTERVAL_MS = 5_000;
/** How long a ping may be unanswered. */
export const KEEP_ALIVE_TIMEOUT_MS = 5_000;
/**
 * Watches and logs on one connection; beyond there is another one. Servers take 1,024 calls of one at once, and where there is
 * no more room no call of the client is sent.
 */
export const STREAMS_PER_CONNECTION_MAX = 512;
/** Beyond it a time limit is as good as none: three years. */
export const TIMEOUT_MAX_MS = 1e11;
/** Characters of a line of a log that has not ended yet, past which it is given in pieces. */
export const LINE_LENGTH_MAX = 1 << 20;
/** Objects asked for per page of a list. */
export const PAGE_SIZE = 500;
/** How often a list or a watch begins anew because what it read expired. */
export const RESTARTS_MAX = 3;
/** Servers that a client may be given, and further ones that it may be told of by servers. */
export const ADDRESSES_MAX = 64;
/** Largest message that servers take or send, in bytes. */
export const MESSAGE_BYTES_MAX = 4 << 20;
/** Longest token that servers take. */
export const TOKEN_BYTES_MAX = 4_096;
/** Longest request id that servers take, in bytes. */
export const REQUEST_ID_BYTES_MAX = 128;
/** Messages of a stream that wait for whoever reads it; the connection waits beyond. */
export const STREAM_QUEUE_MAX = 64;
