/**
 * The connections of one client, and calls with one answer over them.
 *
 * Owns: attempts of a call, pages of a list. Does not own: what is retried (`retry.ts`), requests.
 */

import type { DescMessage, DescMethodUnary, MessageShape } from "@bufbuild/protobuf";
import type { Metadata } from "@grpc/grpc-js";
import { onAbort } from "./abort.js";
import { sleep } from "./clock.js";
import { AttemptFailed, Connection, checkSize } from "./connection.js";
import * as errors from "./errors.js";
import type { ListMeta } from "./gen/stint/v1/meta_pb.js";
import * as limits from "./limits.js";
import { Attempts, type Effect, noAnswer, Servers } from "./retry.js";
import type { Connections } from "./stream.js";

/** Objects of a list, and the revision that it shows: a watch from there misses nothing. */
export interface Listed<T> {
  /** The objects. */
  readonly items: readonly T[];
  /** Revision of the list. */
  readonly revision: bigint;
}

/** The connections of one client, and calls with one answer over them. */
export class ClientConnections implements Connections {
  readonly servers: Servers;
  /** Those that wait, or have a call. */
  readonly #streams = new Set<{ close(): void }>();
  /** By address; calls use the first one, streams each that has room. */
  readonly #connections = new Map<string, Connection[]>();
  /** Of calls that wait. */
  readonly #waiting = new Set<AbortController>();
  #isClosed = false;

  constructor(
    addresses: readonly string[],
    private readonly metadata: Metadata,
    readonly timeoutMs: number,
  ) {
    this.servers = new Servers(addresses);
  }

  /** Throws {@link errors.ClosedError}. */
  check(): void {
    if (this.#isClosed) throw new errors.ClosedError();
  }

  began(stream: { close(): void }): void {
    this.#streams.add(stream);
  }

  ended(stream: { close(): void }): void {
    this.#streams.delete(stream);
  }

  connectionForStream(address: string): Connection {
    const connections = this.#to(address);
    let found = connections.find((one) => one.nStreams < limits.STREAMS_PER_CONNECTION_MAX);
    if (found === undefined) {
      found = new Connection(address, this.metadata);
      connections.push(found);
    }
    return found;
  }

  #to(address: string): [Connection, ...Connection[]] {
    this.check();
    const known = this.#connections.get(address) as [Connection, ...Connection[]] | undefined;
    if (known !== undefined) return known;
    const connections: [Connection] = [new Connection(address, this.metadata)];
    this.#connections.set(address, connections);
    return connections;
  }

  close(): void {
    this.#isClosed = true;
    for (const waiting of this.#waiting) waiting.abort(new errors.ClosedError());
    for (const stream of [...this.#streams]) stream.close();
    for (const connection of [...this.#connections.values()].flat()) connection.close();
    this.#connections.clear();
  }

  /** Makes one call, with as many attempts as the retry table allows. */
  async call<I extends DescMessage, O extends DescMessage>(
    effect: Effect,
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    options: { readonly timeoutMs?: number; readonly signal?: AbortSignal | undefined },
  ): Promise<MessageShape<O>> {
    checkSize(method.input, request);
    if (options.signal?.aborted) throw options.signal.reason;
    const giveUp = new AbortController();
    const given = options.signal;
    const forget = onAbort(given, () => giveUp.abort(given?.reason));
    this.#waiting.add(giveUp);
    try {
      return await this.#attempt(effect, method, request, options.timeoutMs ?? this.timeoutMs, giveUp.signal);
    } finally {
      forget();
      this.#waiting.delete(giveUp);
    }
  }

  async #attempt<I extends DescMessage, O extends DescMessage>(
    effect: Effect,
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<MessageShape<O>> {
    const attempts = new Attempts(this.servers, effect, timeoutMs);
    for (;;) {
      const { address, patienceMs } = attempts.next();
      const until = performance.now() + patienceMs;
      try {
        const [connection] = this.#to(address);
        await connection.connected(patienceMs, signal);
        return await connection.unary(method, request, until - performance.now(), signal);
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (!(error instanceof AttemptFailed)) throw error;
        const { status } = error;
        const isTooLate = status.code === "DEADLINE_EXCEEDED" && status.details === undefined;
        await sleep(attempts.failed(isTooLate ? noAnswer(patienceMs) : status), signal);
      }
    }
  }
}

/** Reads page after page; begins anew if a page expired meanwhile. */
export async function listAll<T>(
  readPage: (token: string) => Promise<{ items: T[]; metadata?: ListMeta }>,
): Promise<Listed<T>> {
  for (let restarts = 0; ; restarts += 1) {
    try {
      const items: T[] = [];
      for (let token = ""; ; ) {
        const { items: more, metadata } = await readPage(token);
        items.push(...more);
        const asked = token;
        token = metadata?.continueToken ?? "";
        if (token !== "" && token === asked) throw new errors.AnswerError("a page that leads to itself");
        if (token === "") return { items, revision: metadata?.resourceVersion ?? 0n };
      }
    } catch (error) {
      if (!(error instanceof errors.ExpiredError) || restarts >= limits.RESTARTS_MAX) throw error;
    }
  }
}
