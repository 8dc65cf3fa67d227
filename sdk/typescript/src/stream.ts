/**
 * Streams that are opened anew when they break, as the retry table says; and what people iterate over.
 *
 * Owns: opening, closing, giving up in time. Does not own: where a stream goes on (`watching.ts`, `logs.ts`).
 */

import type { DescMessage, DescMethodServerStreaming, MessageShape } from "@bufbuild/protobuf";
import { type Answers, AttemptFailed, type Connection } from "./connection.js";
import { ClosedError, ExpiredError } from "./errors.js";
import type { LogSource, PodLogsChunk } from "./gen/stint/v1/pods_pb.js";
import { Lines, type LogPiece, type LogState } from "./logs.js";
import { noAnswer, type Servers, STREAM_ENDED, type Status, StreamAttempts } from "./retry.js";
import type { WatchEvent, WatchState } from "./watching.js";

/** What a stream needs of its client. */
export interface Connections {
  readonly servers: Servers;
  readonly timeoutMs: number;
  /** Throws {@link ClosedError}. */
  connection(address: string): Connection;
  /** Is told of streams, so that they end with the client. */
  readonly streams: Set<{ close(): void }>;
}

/** Waits; ends early with the signal's reason. */
export function sleep(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const end = (settle: () => void) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      settle();
    };
    const abort = () => end(() => reject(signal?.reason));
    const timer = setTimeout(() => end(resolve), milliseconds);
    signal?.addEventListener("abort", abort);
  });
}

/** A stream of answers that is opened anew when it breaks. */
export class ResumingStream<I extends DescMessage, O extends DescMessage> {
  readonly #attempts: StreamAttempts;
  readonly #closing = new AbortController();
  #answers: Answers<MessageShape<O>> | undefined;

  constructor(
    private readonly connections: Connections,
    private readonly method: DescMethodServerStreaming<I, O>,
    private readonly request: () => MessageShape<I>,
    private readonly signal: AbortSignal | undefined,
  ) {
    this.#attempts = new StreamAttempts(connections.servers, connections.timeoutMs);
    connections.streams.add(this);
    if (signal?.aborted) this.#closing.abort();
    else signal?.addEventListener("abort", this.#abort);
  }

  readonly #abort = () => this.close();

  get isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** Ends it: whoever waits gets the end. */
  close(): void {
    this.#closing.abort();
    this.#answers?.cancel();
    this.connections.streams.delete(this);
    this.signal?.removeEventListener("abort", this.#abort);
  }

  /** The next message; undefined at the end, or once it is closed. Throws the signal's reason. */
  async message(): Promise<MessageShape<O> | undefined> {
    while (!this.isClosed) {
      try {
        const answers = this.#answers ?? (await this.#open());
        const message = await answers.next();
        if (message === undefined) this.#answers = undefined;
        else this.#attempts.worked();
        if (!this.isClosed) return message;
      } catch (error) {
        if (error instanceof ClosedError) this.close();
        else if (error instanceof AttemptFailed) await this.broke(error.status);
        else throw error;
      }
    }
    if (this.signal?.aborted) throw this.signal.reason;
    return undefined;
  }

  /** Waits as long as is right before the stream is opened again; throws if it is not. */
  async broke(status: Status): Promise<void> {
    this.#answers = undefined;
    if (this.isClosed) return;
    const pauseMs = this.#attempts.ended(status);
    await sleep(pauseMs, this.#closing.signal).catch(() => undefined);
  }

  async #open(): Promise<Answers<MessageShape<O>>> {
    const { address, patienceMs } = this.#attempts.next();
    const connection = this.connections.connection(address);
    const until = performance.now() + patienceMs;
    await connection.connected(patienceMs);
    const answers = connection.stream(this.method, this.request());
    this.#answers = answers;
    if (this.isClosed) answers.cancel();
    if (!(await answers.opened(until - performance.now()))) {
      answers.cancel();
      throw new AttemptFailed(noAnswer(patienceMs));
    }
    this.#attempts.opened();
    return answers;
  }
}

/** Iterates over what `next` gives, until it is closed. Leaving a `for await` closes it. */
abstract class Iterated<T> implements AsyncIterableIterator<T> {
  abstract next(): Promise<IteratorResult<T, undefined>>;

  /** Ends it; whoever waits gets the end. */
  abstract close(): void;

  [Symbol.asyncIterator](): this {
    return this;
  }

  async return(): Promise<IteratorResult<T, undefined>> {
    this.close();
    return END;
  }
}

const END: IteratorReturnResult<undefined> = { done: true, value: undefined };

/** The message of a watch, whatever it is of. */
export interface WatchMessage<T> {
  readonly type: Parameters<WatchState<T>["take"]>[0];
  readonly revision: bigint;
  readonly object: T | undefined;
}

/** Messages of a watch, over whatever streams it takes. */
export interface EventStream<T> {
  message(): Promise<WatchMessage<T> | undefined>;
  broke(status: Status): Promise<void>;
  readonly isClosed: boolean;
  close(): void;
}

/**
 * A running watch: iterate over it. After an error it may be iterated over again and goes on where it was; without one,
 * leaving the iteration closes it.
 */
export class Watch<T> extends Iterated<WatchEvent<T>> {
  readonly #pending: WatchEvent<T>[] = [];

  /** @internal */
  constructor(
    private readonly stream: EventStream<T>,
    private readonly state: WatchState<T>,
  ) {
    super();
  }

  override close(): void {
    this.stream.close();
  }

  /**
   * Waits for the next event. Throws `UnreachableError` or `UnavailableError` if no server answers for as long as a call
   * may take.
   */
  override async next(): Promise<IteratorResult<WatchEvent<T>, undefined>> {
    for (;;) {
      const event = this.#pending.shift();
      if (event !== undefined) return { done: false, value: event };
      try {
        const message = await this.stream.message();
        if (message !== undefined) {
          this.#pending.push(...this.state.take(message.type, message.revision, message.object));
        } else if (this.stream.isClosed) {
          return END;
        } else {
          await this.stream.broke(STREAM_ENDED);
        }
      } catch (error) {
        if (!(error instanceof ExpiredError)) throw error;
        this.state.expired(error);
      }
    }
  }
}

/** A log as it comes: iterate over its pieces, or over `lines`. A broken connection is mended where it broke. */
export class LogStream extends Iterated<LogPiece> {
  /** @internal */
  constructor(
    private readonly stream: { message(): Promise<PodLogsChunk | undefined>; close(): void },
    private readonly state: LogState,
  ) {
    super();
  }

  /** Of which run of which container the log is, once the first piece has come. */
  get source(): LogSource | undefined {
    return this.state.source;
  }

  override close(): void {
    this.stream.close();
  }

  /** Waits for the next piece. */
  override async next(): Promise<IteratorResult<LogPiece, undefined>> {
    for (;;) {
      const chunk = await this.stream.message();
      if (chunk === undefined) {
        this.close();
        return END;
      }
      const piece = this.state.take(chunk);
      if (piece !== undefined) return { done: false, value: piece };
    }
  }

  /** Iterates over the lines, without their ends. Notes of missing output are left out. */
  async *lines(): AsyncGenerator<string, void, undefined> {
    const lines = new Lines();
    for await (const piece of this) yield* lines.take(piece);
    yield* lines.rest();
  }

  /** Returns everything up to the end. Notes of missing output are left out. */
  async read(): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    for await (const piece of this) pieces.push(piece.data);
    return Buffer.concat(pieces);
  }
}
