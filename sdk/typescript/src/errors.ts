/**
 * What can go wrong with a call.
 *
 * Owns: the types of errors. Does not own: which status of the wire becomes which (`retry.ts`).
 */

import type { Job } from "./gen/stint/v1/job_pb.js";
import { TIMEOUT_MAX_MS } from "./limits.js";

/** All errors of this package, but for those of an AbortSignal, which are thrown as they are. */
export class StintError extends Error {
  /** Name of its class. */
  override get name(): string {
    return this.constructor.name;
  }
}

/** An address can't be used. */
export class AddressError extends StintError {
  constructor(
    /** As given. */
    readonly address: string,
  ) {
    super(
      `${JSON.stringify(address)} is not the address of a server: give HOST:PORT, or several separated by commas`,
    );
  }
}

/** A token can't be sent. The message never shows the token. */
export class TokenError extends StintError {
  constructor(
    /** What is wrong with it. */
    readonly problem: string,
  ) {
    super(`the token can't be used: ${problem}`);
  }
}

/** An argument makes no sense; nothing was sent. */
export class ArgumentError extends StintError {}

/** Returns a number as messages have it; throws {@link ArgumentError} if it is none that they can have. @internal */
export function wholeNumber(value: number, what: string): bigint {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new ArgumentError(`${what} is a whole number, at least 0, not ${value}`);
  }
  return BigInt(value);
}

/** Returns the time limit of a call; throws {@link ArgumentError} if it is none. @internal */
export function timeLimit(timeoutMs: number): number {
  if (!(timeoutMs > 0)) throw new ArgumentError(`a timeout is more than 0 ms, not ${timeoutMs}`);
  return Math.min(timeoutMs, TIMEOUT_MAX_MS);
}

/** No server answered. Nothing was changed. */
export class UnreachableError extends StintError {
  constructor(
    /** All that were tried, separated by commas. */
    readonly addresses: string,
    /** How long it was tried. */
    readonly timeoutMs: number,
    /** What the last attempt met. */
    readonly last: string,
  ) {
    super(
      `no server could be reached at ${addresses} within ${timeoutMs} ms (${last}): ` +
        "check the addresses, and that a majority of the servers runs",
    );
  }
}

/** Servers answered, and could not do it as long as it was tried. Nothing was changed. */
export class UnavailableError extends StintError {
  constructor(
    /** How long it was tried. */
    readonly timeoutMs: number,
    /** What the last server said. */
    readonly last: string,
  ) {
    super(`given up after ${timeoutMs} ms: ${last}`);
  }
}

/** A write may or may not have been carried out. */
export class OutcomeUnknownError extends StintError {
  /**
   * Of a submit: the same Job with this id, within 5 minutes of the first attempt, tells the outcome and never makes a
   * second Job.
   */
  requestId: string | undefined = undefined;

  constructor(
    /** What the attempt met. */
    readonly problem: string,
  ) {
    super(`the outcome is unknown (${problem}): look at the object before trying again`);
  }
}

/** One field that is wrong. */
export interface FieldViolation {
  /** Its path in the names of Kubernetes' JSON, such as `spec.template.spec.restartPolicy`. */
  readonly field: string;
  /** What is wrong with it. */
  readonly description: string;
}

/** What a server said with a refusal. */
export interface Refusal {
  /** Name of the gRPC code, such as `NOT_FOUND`. */
  readonly code: string;
  /** Stable; for programs, such as `NotFound`. Undefined if the server gave none of stint's own. */
  readonly reason?: string | undefined;
  /** Which fields are wrong. */
  readonly fieldViolations?: readonly FieldViolation[];
  /** Further facts by name. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** The server refused. */
export class RefusedError extends StintError {
  /** Name of the gRPC code, such as `NOT_FOUND`. */
  readonly code: string;
  /** Stable; for programs, such as `NotFound`. Undefined if the server gave none of stint's own. */
  readonly reason: string | undefined;
  /** Which fields are wrong. */
  readonly fieldViolations: readonly FieldViolation[];
  /** Further facts by name. */
  readonly metadata: Readonly<Record<string, string>>;

  constructor(message: string, refusal: Refusal) {
    super(message);
    this.code = refusal.code;
    this.reason = refusal.reason;
    this.fieldViolations = refusal.fieldViolations ?? [];
    this.metadata = refusal.metadata ?? {};
  }
}

/** The object does not exist. */
export class NotFoundError extends RefusedError {}
/** The name is taken. */
export class AlreadyExistsError extends RefusedError {}
/** The request or its object is not valid; `fieldViolations` say where. */
export class InvalidError extends RefusedError {}
/** A uid or resourceVersion that was given does not hold any more. Read again, then decide. */
export class ConflictError extends RefusedError {}
/** A revision, or a page of a list, is no longer kept. List again. */
export class ExpiredError extends RefusedError {}
/** No token, or a wrong one. */
export class UnauthenticatedError extends RefusedError {}
/** Known, but not allowed to. */
export class PermissionDeniedError extends RefusedError {}
/** A limit of the cluster is reached, and waiting alone need not help. */
export class LimitExceededError extends RefusedError {}

/** The answer can't be understood. */
export class AnswerError extends StintError {
  constructor(problem: string) {
    super(`the server's answer can't be understood (${problem}): are client and server of the same version?`);
  }
}

/** A log broke off before the servers named a place in it, so that what is missing can't be told. */
export class LogBrokeError extends StintError {
  constructor() {
    super("the log broke off before the servers named a place in it: read it again");
  }
}

/** The client was closed. */
export class ClosedError extends StintError {
  constructor() {
    super("the client is closed: make another one");
  }
}

/** What was waited for did not come in time. */
export class WaitTimeoutError extends StintError {}

/** A Job that was waited for has failed. */
export class JobFailedError extends StintError {
  constructor(
    /** The Job, as it ended. */
    readonly job: Job,
    /** Such as `BackoffLimitExceeded`. */
    readonly reason: string,
    message: string,
  ) {
    super(`job ${job.metadata?.namespace}/${job.metadata?.name} failed: ${reason}: ${message}`);
  }
}

/** A Job that was waited for was deleted. */
export class JobDeletedError extends StintError {
  constructor(
    /** Its namespace. */
    readonly namespace: string,
    /** Its name. */
    readonly jobName: string,
  ) {
    super(`job ${namespace}/${jobName} was deleted before it had finished`);
  }
}
