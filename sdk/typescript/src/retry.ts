/**
 * The retry table: what the end of one attempt means for the next.
 *
 * Owns: reading a status, which server is asked next, pauses, time limits, which error is thrown in the end.
 * Does not own: sending, sleeping.
 *
 * Invariants: a write that may have been carried out is repeated only if repeating it changes nothing, and if none of its
 * attempts is answered the caller is told that its outcome is unknown; every call ends within its time limit.
 */

import { isIP } from "node:net";
import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import * as errors from "./errors.js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
  StatusSchema,
} from "./gen/google/rpc/status_details_pb.js";
import * as limits from "./limits.js";

const ERROR_DOMAIN = "stint.dev";
const LEADER_ADDRESS = "leaderAddress";

/** How an attempt ended. */
export interface Status {
  /** Name of the gRPC code, such as `UNAVAILABLE`. */
  readonly code: string;
  readonly message: string;
  /** `grpc-status-details-bin`. */
  readonly details?: Uint8Array | undefined;
  /** True: no connection could be made, so that nothing was sent. */
  readonly isUnsent?: boolean;
}

/** What the end of an attempt means. */
export type Meaning =
  | {
      /** Certainly not carried out: try again, elsewhere. */
      readonly kind: "not done";
      readonly message: string;
      /** That the server asked for. */
      readonly pauseMs?: number | undefined;
      /** Where the leader is, if the server knows. */
      readonly leader?: string | undefined;
      /** A server said so, not the lack of one. */
      readonly isAnswered: boolean;
    }
  | {
      /** Perhaps carried out, perhaps not. */
      readonly kind: "maybe done";
      readonly message: string;
    }
  | {
      /** The caller's business. */
      readonly kind: "final";
      readonly error: errors.RefusedError;
    };

type RefusedKind = new (message: string, refusal: errors.Refusal) => errors.RefusedError;

const KINDS_BY_REASON = new Map<string, RefusedKind>([
  ["BadRequest", errors.InvalidError],
  ["Invalid", errors.InvalidError],
  ["RequestTooLarge", errors.InvalidError],
  ["NotFound", errors.NotFoundError],
  ["AlreadyExists", errors.AlreadyExistsError],
  ["Conflict", errors.ConflictError],
  ["Expired", errors.ExpiredError],
  ["Unauthenticated", errors.UnauthenticatedError],
  ["PermissionDenied", errors.PermissionDeniedError],
  ["TooManyRequests", errors.LimitExceededError],
  ["LimitExceeded", errors.LimitExceededError],
]);

const KINDS_BY_CODE = new Map<string, RefusedKind>([
  ["NOT_FOUND", errors.NotFoundError],
  ["ALREADY_EXISTS", errors.AlreadyExistsError],
  ["INVALID_ARGUMENT", errors.InvalidError],
  ["UNAUTHENTICATED", errors.UnauthenticatedError],
  ["PERMISSION_DENIED", errors.PermissionDeniedError],
]);

const BROKEN_CODES = new Set(["UNAVAILABLE", "UNKNOWN", "CANCELLED", "INTERNAL", "DEADLINE_EXCEEDED"]);

/** Says what the end of an attempt means: the rows of the retry table. */
export function meaningOf(status: Status): Meaning {
  const { code, message } = status;
  const { info, badRequest, retryInfo } = readDetails(status.details);
  if (info?.domain !== ERROR_DOMAIN) return meaningOfConnection(status);
  const delay = retryInfo?.retryDelay;
  const asked = delay === undefined ? undefined : Number(delay.seconds) * 1000 + delay.nanos / 1e6;
  const pauseMs = asked === undefined ? undefined : clamp(asked, 0, limits.RETRY_PAUSE_ASKED_MAX_MS);
  if (info.reason === "OutcomeUnknown") return { kind: "maybe done", message };
  if (info.reason === "NotLeader") {
    const leader = info.metadata[LEADER_ADDRESS] || undefined;
    return { kind: "not done", message, pauseMs, leader, isAnswered: true };
  }
  // The server says that nothing was changed, and that it may go better next time.
  const isPassing = info.reason === "Timeout" || code === "UNAVAILABLE";
  if (isPassing || (code === "RESOURCE_EXHAUSTED" && pauseMs !== undefined)) {
    return { kind: "not done", message, pauseMs, isAnswered: true };
  }
  const Kind = KINDS_BY_REASON.get(info.reason) ?? errors.RefusedError;
  const fieldViolations = (badRequest?.fieldViolations ?? []).map(({ field, description }) => ({
    field,
    description,
  }));
  const refusal = { code, reason: info.reason, fieldViolations, metadata: { ...info.metadata } };
  return { kind: "final", error: new Kind(message, refusal) };
}

/** Of a status without a reason of stint's own: it comes from the connection, or from something between. */
function meaningOfConnection(status: Status): Meaning {
  const { code } = status;
  const message = status.message || code;
  if (status.isUnsent) return { kind: "not done", message, isAnswered: false };
  if (BROKEN_CODES.has(code)) return { kind: "maybe done", message };
  const Kind = KINDS_BY_CODE.get(code) ?? errors.RefusedError;
  return { kind: "final", error: new Kind(message, { code }) };
}

/** Takes apart `grpc-status-details-bin`. What can't be read is as if it were not there. */
function readDetails(encoded: Uint8Array | undefined) {
  if (encoded === undefined) return {};
  try {
    const { details } = fromBinary(StatusSchema, encoded);
    const first = <T>(found: (T | undefined)[]) => found.find((one) => one !== undefined);
    return {
      info: first(details.map((one) => anyUnpack(one, ErrorInfoSchema))),
      badRequest: first(details.map((one) => anyUnpack(one, BadRequestSchema))),
      retryInfo: first(details.map((one) => anyUnpack(one, RetryInfoSchema))),
    };
  } catch {
    return {};
  }
}

/** The known servers, and which of them is asked first. */
export class Servers {
  readonly addresses: readonly string[];
  #current = 0;
  readonly #told = new Set<string>();

  constructor(addresses: readonly string[]) {
    this.addresses = addresses;
  }

  /** Position of the server that is asked first. */
  get first(): number {
    return this.#current;
  }

  /** Asks the next one first from now on, unless another call has decided already. */
  passedOver(position: number): void {
    if (this.#current === position) this.#current = (position + 1) % this.addresses.length;
  }

  /** Takes a leader's address from a server, if it can be used. A known server is asked first from now on. */
  hinted(named: string): string | undefined {
    const address = named.replace(/^http:\/\//, "");
    const position = this.addresses.indexOf(address);
    if (position >= 0) {
      this.#current = position;
    } else if (!this.#told.has(address)) {
      if (this.#told.size >= limits.ADDRESSES_MAX || !isAddress(address)) return undefined;
      this.#told.add(address);
    }
    return address;
  }
}

/**
 * What a call does, and so what may be done about an attempt whose outcome is not known: it changes nothing; it changes
 * something, and nothing more if it is carried out again; it changes something each time.
 */
export type Effect = "read" | "repeatable write" | "write";

/** Where time and chance come from. */
export interface Surroundings {
  /** Milliseconds of a clock that never jumps. */
  readonly now: () => number;
  /** From 0 to 1. */
  readonly jitter: () => number;
}

const SURROUNDINGS: Surroundings = { now: () => performance.now(), jitter: Math.random };

/** The attempts of one call: `next`, send, and `failed` if it did, until it throws. */
export class Attempts {
  readonly #begun: number;
  #pauseMs = limits.RETRY_PAUSE_FIRST_MS;
  #failures = 0;
  #mayBeDone = false;
  #hinted: string | undefined;
  #followedHint = false;
  #position: number;
  /** What a server said last. */
  #said: string | undefined;

  constructor(
    private readonly servers: Servers,
    private readonly effect: Effect,
    private readonly timeoutMs: number,
    private readonly surroundings: Surroundings = SURROUNDINGS,
  ) {
    this.#begun = surroundings.now();
    this.#position = servers.first;
  }

  /** Names the address that is asked now, and says how many milliseconds it may take. */
  next(): { address: string; patienceMs: number } {
    let patienceMs = Math.max(this.timeoutMs - (this.surroundings.now() - this.#begun), 0);
    this.#position = this.servers.first;
    const hinted = this.#hinted;
    this.#hinted = undefined;
    this.#followedHint = hinted !== undefined;
    // A server that accepts and never answers must not use up the time of the others.
    if (this.effect !== "write" && this.servers.addresses.length > 1) {
      patienceMs = Math.min(patienceMs, limits.ATTEMPT_TIMEOUT_MS);
    }
    return { address: hinted ?? (this.servers.addresses[this.#position] as string), patienceMs };
  }

  /** Asks another server first from now on. */
  askAnother(): void {
    this.servers.passedOver(this.#position);
  }

  /** Returns the milliseconds to wait before the next attempt; throws if there is none. */
  failed(status: Status): number {
    const meaning = meaningOf(status);
    if (meaning.kind === "final") throw meaning.error;
    let isAnswered = false;
    let askedMs: number | undefined;
    if (meaning.kind === "maybe done") {
      if (this.effect === "write") throw new errors.OutcomeUnknownError(causeOf(meaning.message));
      this.#mayBeDone ||= this.effect === "repeatable write";
    } else {
      isAnswered = meaning.isAnswered;
      askedMs = meaning.pauseMs;
      if (meaning.leader !== undefined && !this.#followedHint) {
        this.#hinted = this.servers.hinted(meaning.leader);
      }
    }
    if (isAnswered) this.#said = meaning.message;
    this.#failures += 1;
    // Another server may know better, or be up: also after one that was only asked because another named it.
    if (this.#hinted === undefined) this.servers.passedOver(this.#position);
    const isRoundOver = this.#failures % this.servers.addresses.length === 0;
    const jitter = this.surroundings.jitter();
    let waitMs = 0;
    if (this.#hinted !== undefined) {
      // Asked at once.
    } else if (askedMs !== undefined) {
      // Never sooner than asked; later by a little, so that not all callers come back at once.
      waitMs = askedMs * (1 + jitter / 4);
    } else if (isRoundOver) {
      waitMs = (this.#pauseMs * (1 + jitter)) / 2;
    }
    if (isRoundOver) this.#pauseMs = Math.min(this.#pauseMs * 2, limits.RETRY_PAUSE_MAX_MS);
    const passedMs = this.surroundings.now() - this.#begun;
    if (passedMs + waitMs < this.timeoutMs) return waitMs;
    const { message } = meaning;
    if (this.#mayBeDone) throw new errors.OutcomeUnknownError(causeOf(message));
    // An attempt that began with next to no time left says nothing about the servers.
    const wasCut = meaning.kind === "maybe done" && passedMs >= this.timeoutMs;
    if (this.#said !== undefined && (isAnswered || wasCut)) {
      throw new errors.UnavailableError(this.timeoutMs, this.#said);
    }
    throw new errors.UnreachableError(this.servers.addresses.join(","), this.timeoutMs, message);
  }
}

/** The attempts of one stream that is opened again whenever it ends. Reads only. */
export class StreamAttempts {
  #attempts: Attempts | undefined;
  #openedAt: number | undefined;

  constructor(
    private readonly servers: Servers,
    private readonly timeoutMs: number,
    private readonly surroundings: Surroundings = SURROUNDINGS,
  ) {}

  /** Names the address that is asked now, and says how many milliseconds it may take until the stream is open. */
  next(): { address: string; patienceMs: number } {
    this.#attempts ??= new Attempts(this.servers, "read", this.timeoutMs, this.surroundings);
    return this.#attempts.next();
  }

  /** The server has begun to answer. */
  opened(): void {
    this.#openedAt = this.surroundings.now();
  }

  /** A message brought the stream further: what was before is forgotten. */
  worked(): void {
    this.#attempts = undefined;
  }

  /** Returns the milliseconds to wait before the next attempt; throws if there is none. */
  ended(status: Status): number {
    const openedAt = this.#openedAt;
    this.#openedAt = undefined;
    const isHealthy =
      openedAt !== undefined && this.surroundings.now() - openedAt >= limits.STREAM_HEALTHY_AFTER_MS;
    if (isHealthy) this.#attempts = undefined;
    if (this.#attempts === undefined) this.next();
    try {
      return (this.#attempts as unknown as Attempts).failed(status);
    } catch (error) {
      if (error instanceof errors.ExpiredError) this.#attempts?.askAnother();
      // Whoever asks again gets the whole time again.
      this.#attempts = undefined;
      throw error;
    }
  }
}

/** Of a stream that never ends by itself: a server that stops ends it. */
export const STREAM_ENDED: Status = { code: "UNAVAILABLE", message: "the server ended the stream" };

/** Of an attempt that this client gave up because nothing came. */
export function noAnswer(patienceMs: number): Status {
  return { code: "DEADLINE_EXCEEDED", message: `no answer within ${Math.round(patienceMs)} ms` };
}

/** Takes the cause out of what a server says of an unknown outcome, which it says in the same words as this client. */
function causeOf(message: string): string {
  return /^the outcome is unknown \((.*?)\):/s.exec(message)?.[1] ?? message;
}

/** Says whether a text is HOST:PORT, perhaps behind `http://`. */
export function isAddress(text: string): boolean {
  const parts = /^(?:http:\/\/)?(?:\[([\dA-Fa-f:.]+)\]|[\w.-]+):(\d{1,5})$/.exec(text);
  const [ipv6, port] = [parts?.[1], Number(parts?.[2])];
  if (!(port >= 1 && port <= 65_535)) return false;
  // An IPv6 address must be in brackets: its last part would be taken for the port.
  return ipv6 === undefined || isIP(ipv6) === 6;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}
