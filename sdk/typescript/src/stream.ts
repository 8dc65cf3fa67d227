/**
 * Streams that are opened anew when they break, as the retry table says; and what people iterate over.
 *
 * Owns: opening, closing, giving up in time. Does not own: where a stream goes on (`watching.ts`, `logs.ts`).
 */

import type { DescMessage, DescMethodServerStreaming, MessageShape } from "@bufbuild/protobuf";
import { onAbort } from "./abort.js";
import { sleep } from "./clock.js";
import { type Answers, AttemptFailed, type Connection, checkSize } from "./connection.js";
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
  check(): void;
  /** One with room for a stream, whose `nStreams` the stream keeps. Throws {@link ClosedError}. */
  connectionForStream(address: string): Connection;
  /** Is told of streams that wait or have a call, so that they end with the client. */
  began(stream: { close(): void }): void;
  ended(stream: { close(): void }): void;
}

/** A stream of answers that is opened anew when it breaks. */
export class ResumingStream<I extends DescMessage, O extends DescMessage> {
  readonly #attempts: StreamAttempts;
  readonly #closing = new AbortController();
  #forget: () => void = () => undefined;
  #connection: Connection | undefined;
  #answers: Answers<MessageShape<O>> | undefined;

  /** Throws {@link ClosedError}, and for a request that can't be sent. */
  constructor(
    private readonly connections: Connections,
    private readonly method: DescMethodServerStreaming<I, O>,
    private readonly request: () => MessageShape<I>,
    private readonly signal: AbortSignal | undefined,
  ) {
    connections.check();
    checkSize(method.input, request());
    this.#attempts = new StreamAttempts(connections.servers, connections.timeoutMs);
    if (signal?.aborted) this.#closing.abort();
    else this.#forget = onAbort(signal, () => this.close());
  }

  get isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** Ends it: whoever waits gets the end. */
  close(): void {
    this.#closing.abort();
    this.#answers?.cancel();
    this.#leave();
    this.connections.ended(this);
    this.#forget();
  }

  /** The next message; undefined at the end, or once it is closed. Throws the signal's reason. */
  async message(): Promise<MessageShape<O> | undefined> {
    this.connections.began(this);
    try {
      while (!this.isClosed) {
        try {
          const answers = this.#answers ?? (await this.#open());
          const message = await answers.next();
          if (message === undefined) this.#leave();
          if (!this.isClosed) return message;
        } catch (error) {
          if (this.isClosed || error instanceof ClosedError) this.close();
          else if (error instanceof AttemptFailed) await this.broke(error.status);
          else throw error;
        }
      }
    } finally {
      if (this.#answers === undefined) this.connections.ended(this);
    }
    if (this.signal?.aborted) throw this.signal.reason;
    return undefined;
  }

  /** A message brought it further: the time that opening may take begins anew. */
  worked(): void {
    this.#attempts.worked();
  }

  /** Waits as long as is right before the stream is opened again; throws if it is not. */
  async broke(status: Status): Promise<void> {
    this.#leave();
    if (this.isClosed) return;
    const pauseMs = this.#attempts.ended(status);
    await sleep(pauseMs, this.#closing.signal).catch(() => undefined);
  }

  async #open(): Promise<Answers<MessageShape<O>>> {
    const { address, patienceMs } = this.#attempts.next();
    const until = performance.now() + patienceMs;
    const request = this.request();
    const connection = this.connections.connectionForStream(address);
    this.#connection = connection;
    connection.nStreams += 1;
    await connection.connected(patienceMs, this.#closing.signal);
    const answers = connection.stream(this.method, request);
    this.#answers = answers;
    if (!(await answers.opened(until - performance.now()))) {
      answers.cancel();
      throw new AttemptFailed(noAnswer(patienceMs));
    }
    this.#attempts.opened();
    return answers;
  }

  /** There is no call any more. */
  #leave(): void {
    this.#answers = undefined;
    if (this.#connection !== undefined) this.#connection.nStreams -= 1;
    this.#connection = undefined;
  }
}

/** Iterates over what `step` gives, until it is closed. Leaving a `for await` closes it. */
abstract class Iterated<T> implements AsyncIterableIterator<T> {
  #last: Promise<unknown> = Promise.resolve();

  protected abstract step(): Promise<IteratorResult<T, undefined>>;

  /** Ends it; whoever waits gets the end. */
  abstract close(): void;

  /** Waits for the next one. Whoever asks before the last one has come gets the one after it. */
  next(): Promise<IteratorResult<T, undefined>> {
    const step = this.#last.then(() => this.step());
    this.#last = step.catch(() => undefined);
    return step;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Closes it: so does `for await` that is left. */
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
  worked(): void;
  broke(status: Status): Promise<void>;
  readonly isClosed: boolean;
  close(): void;
}

/**
 * A running watch: iterate over it. After an error it may be iterated over again and goes on where it was; without one,
 * leaving the iteration closes it. Ends when it is closed, by itself or with its client.
 *
 * `next` throws `UnreachableError` or `UnavailableError` if no server answers for as long as a call may take.
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

  protected override async step(): Promise<IteratorResult<WatchEvent<T>, undefined>> {
    for (;;) {
      const event = this.#pending.shift();
      if (event !== undefined) return { done: false, value: event };
      try {
        const message = await this.stream.message();
        if (message !== undefined) {
          const before = this.state.revision;
          this.#pending.push(...this.state.take(message.type, message.revision, message.object));
          // What was given before, and what there is as long as it is not whole, lead nowhere if the stream breaks each time.
          if (this.state.revision > before) this.stream.worked();
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

/** What of a stream a log uses. */
export type LogMessages = Pick<EventStream<never>, "worked" | "isClosed" | "close"> & {
  message(): Promise<PodLogsChunk | undefined>;
};

/**
 * A log as it comes: iterate over its pieces, or over `lines`. A broken connection is mended where it broke.
 *
 * `next` throws `LogBrokeError`, and `UnreachableError` or `UnavailableError` if no server answers for as long as a call may
 * take.
 */
export class LogStream extends Iterated<LogPiece> {
  #hasEnded = false;

  /** @internal */
  constructor(
    private readonly stream: LogMessages,
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

  protected override async step(): Promise<IteratorResult<LogPiece, undefined>> {
    for (;;) {
      const chunk = await this.stream.message();
      if (chunk === undefined) {
        this.#hasEnded ||= !this.stream.isClosed;
        this.close();
        return END;
      }
      const piece = this.state.take(chunk);
      // Whose log it is alone, what was given before, and that some is missing lead nowhere if the node is lost each time.
      if (this.state.hasAdvanced) this.stream.worked();
      if (piece !== undefined) return { done: false, value: piece };
    }
  }

  /**
   * Iterates over the lines, without their ends. Notes of missing output are left out. What is not UTF-8 is replaced; a line
   * of more than 1 MiB is given in pieces.
   */
  async *lines(): AsyncGenerator<string, void, undefined> {
    const lines = new Lines();
    for await (const piece of this) yield* lines.take(piece);
    yield* lines.rest();
  }

  /**
   * Returns everything up to the end. Notes of missing output are left out. Throws `ClosedError` if it was closed before it
   * had ended: what was read is not all.
   */
  async read(): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    for await (const piece of this) pieces.push(piece.data);
    if (!this.#hasEnded) throw new ClosedError();
    return Buffer.concat(pieces);
  }
}
