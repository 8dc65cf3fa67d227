/**
 * Watches: what they give, and how they go on after a broken connection.
 *
 * Owns: resuming from the last revision; beginning anew when it is no longer kept. Does not own: connections.
 *
 * Invariants: each change is given once and in order of revision. When changes were missed the watch says so: it gives
 * `relisted` with everything there is, and goes on from there.
 */

import { AnswerError, ArgumentError, type ExpiredError } from "./errors.js";
import { WatchEventType } from "./gen/stint/v1/meta_pb.js";
import { RESTARTS_MAX } from "./limits.js";

/** One change of one object. */
export interface Change<T> {
  /**
   * `added`: it is new, or came to match; a watch that begins with what there is gives that so. `deleted`: it is gone, or
   * matches no longer.
   */
  readonly kind: "added" | "modified" | "deleted";
  /** The object after the change; for a deletion its last state. */
  readonly object: T;
  /** Revision of the change: a watch from here misses nothing later. */
  readonly revision: bigint;
}

/** Changes were missed. Replace what you know by this; the watch goes on from it. */
export interface Relisted<T> {
  /** Tells it from a change. */
  readonly kind: "relisted";
  /** All objects that match now. */
  readonly objects: readonly T[];
  /** The revision that they show. */
  readonly revision: bigint;
}

/** What a watch gives. */
export type WatchEvent<T> = Change<T> | Relisted<T>;

const KINDS = new Map<WatchEventType, Change<unknown>["kind"]>([
  [WatchEventType.ADDED, "added"],
  [WatchEventType.MODIFIED, "modified"],
  [WatchEventType.DELETED, "deleted"],
]);

/** How far a watch is. */
export class WatchState<T> {
  #revision: bigint;
  #present: T[] = [];
  #isRelist = false;
  #restarts = 0;
  /** Servers in a row that do not keep the revision. */
  #refusals = 0;

  constructor(
    fromRevision: bigint | undefined,
    private readonly nServers = 1,
  ) {
    if (fromRevision !== undefined && fromRevision < 0n) {
      throw new ArgumentError(`a revision is at least 0, not ${fromRevision}`);
    }
    this.#revision = fromRevision ?? 0n;
  }

  /** Everything up to here was given; 0: what there is has yet to be read. */
  get revision(): bigint {
    return this.#revision;
  }

  /** Returns the revision that a new stream begins from. What there is is read from its beginning again. */
  opened(): bigint {
    this.#present = [];
    return this.#revision;
  }

  /**
   * Takes that a server does not keep the revision; once that is so of all, begins anew. Throws if that was done too often
   * without success.
   */
  expired(error: ExpiredError): void {
    if (this.#revision > 0n) {
      this.#refusals += 1;
      // One that was started lately keeps less than the others.
      if (this.#refusals < this.nServers) return;
      this.#refusals = 0;
    }
    this.#restarts += 1;
    if (this.#restarts > RESTARTS_MAX) {
      this.#restarts = 0;
      throw error;
    }
    this.#isRelist ||= this.#revision > 0n;
    this.#revision = 0n;
  }

  /** Says what a message of the stream gives. */
  take(type: WatchEventType, revision: bigint, object: T | undefined): WatchEvent<T>[] {
    this.#refusals = 0;
    const kind = KINDS.get(type);
    if (kind === undefined) return this.#bookmark(revision);
    if (object === undefined) throw new AnswerError("a change without its object");
    if (this.#revision === 0n) {
      // What there is; a bookmark ends it. Nothing is given before, so that a break can't give any of it twice.
      this.#present.push(object);
      return [];
    }
    if (revision <= this.#revision) return [];
    this.#revision = revision;
    return [{ kind, object, revision }];
  }

  #bookmark(revision: bigint): WatchEvent<T>[] {
    if (this.#revision > 0n) {
      if (revision > this.#revision) this.#revision = revision;
      return [];
    }
    this.#revision = revision;
    this.#restarts = 0;
    const objects = this.#present;
    this.#present = [];
    if (this.#isRelist) {
      this.#isRelist = false;
      return [{ kind: "relisted", objects, revision }];
    }
    return objects.map((object) => ({ kind: "added", object, revision }));
  }
}
