/**
 * One server as @grpc/grpc-js reaches it: calls of methods that protobuf-es describes.
 *
 * Owns: the channel, bytes of messages, cancelling. Does not own: which server is asked and how often (`retry.ts`).
 */

import {
  type DescMessage,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  type CallOptions,
  type ChannelOptions,
  connectivityState,
  credentials,
  Client as GrpcClient,
  type Metadata,
  type ServiceError,
  status as statusCodes,
} from "@grpc/grpc-js";
import { onAbort } from "./abort.js";
import { after } from "./clock.js";
import { ArgumentError, ClosedError, InvalidError } from "./errors.js";
import * as limits from "./limits.js";
import type { Status } from "./retry.js";

const CHANNEL_OPTIONS: ChannelOptions = {
  // Of a connection that can't be made: the pauses between tries.
  "grpc.initial_reconnect_backoff_ms": limits.RETRY_PAUSE_FIRST_MS,
  "grpc.max_reconnect_backoff_ms": limits.RETRY_PAUSE_MAX_MS,
  "grpc.keepalive_time_ms": limits.KEEP_ALIVE_INTERVAL_MS,
  "grpc.keepalive_timeout_ms": limits.KEEP_ALIVE_TIMEOUT_MS,
  "grpc.keepalive_permit_without_calls": 1,
  "grpc.max_receive_message_length": limits.MESSAGE_BYTES_MAX,
  // The servers are the cluster's own: nothing between them and the client.
  "grpc.enable_http_proxy": 0,
  // Attempts are made by this package's table alone.
  "grpc.enable_retries": 0,
  "grpc.service_config_disable_resolution": 1,
  // A client has connections of its own: closing it closes them.
  "grpc.use_local_subchannel_pool": 1,
};

/** Thrown by the calls below: the attempt ended so. */
export class AttemptFailed extends Error {
  constructor(readonly status: Status) {
    super(status.message);
  }
}

/** A connection to one server, made when it is used. */
export class Connection {
  /** Streams that are open on it. */
  nStreams = 0;
  readonly #client: GrpcClient;

  constructor(
    address: string,
    private readonly metadata: Metadata,
  ) {
    this.#client = new GrpcClient(address, credentials.createInsecure(), CHANNEL_OPTIONS);
  }

  close(): void {
    this.#client.close();
  }

  /**
   * Waits until there is a connection. Separate from the call, so that a call which was never sent is known to be one.
   * Throws {@link AttemptFailed}, and the signal's reason.
   */
  async connected(patienceMs: number, signal: AbortSignal): Promise<void> {
    const channel = this.#client.getChannel();
    const until = performance.now() + Math.min(patienceMs, limits.CONNECT_TIMEOUT_MS);
    for (;;) {
      if (signal.aborted) throw signal.reason;
      const state = channel.getConnectivityState(true);
      if (state === connectivityState.READY) return;
      if (state === connectivityState.SHUTDOWN) throw new ClosedError();
      if (state === connectivityState.TRANSIENT_FAILURE) throw unsent("no connection could be made");
      const hasChanged = await new Promise<boolean>((resolve) => {
        const forget = onAbort(signal, () => resolve(true));
        channel.watchConnectivityState(state, Date.now() + until - performance.now(), (error) => {
          forget();
          resolve(error === undefined);
        });
      });
      if (!hasChanged) throw unsent("no connection was made in time");
    }
  }

  /** Makes a call with one answer. Throws {@link AttemptFailed}, and the signal's reason. */
  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    patienceMs: number,
    signal: AbortSignal | undefined,
  ): Promise<MessageShape<O>> {
    return new Promise((resolve, reject) => {
      const options: CallOptions = { deadline: Date.now() + patienceMs };
      const call = this.#client.makeUnaryRequest(
        pathOf(method),
        (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
        (bytes) => fromBinary(method.output, bytes),
        request,
        this.metadata,
        options,
        (error, answer) => {
          forget();
          if (signal?.aborted) reject(signal.reason);
          else if (error !== null) reject(new AttemptFailed(statusOf(error)));
          else if (answer === undefined) reject(new AttemptFailed(NO_ANSWER));
          else resolve(answer);
        },
      );
      const forget = onAbort(signal, () => call.cancel());
    });
  }

  /** Makes a call with a stream of answers. */
  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
  ): Answers<MessageShape<O>> {
    const call = this.#client.makeServerStreamRequest(
      pathOf(method),
      (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
      (bytes) => fromBinary(method.output, bytes),
      request,
      this.metadata,
    );
    return new Answers(call);
  }
}

/** What of gRPC's stream is used. */
interface Call<T> {
  on(event: "data", listener: (message: T) => void): unknown;
  on(event: "error", listener: (error: ServiceError) => void): unknown;
  on(event: "metadata" | "end", listener: () => void): unknown;
  pause(): unknown;
  resume(): unknown;
  cancel(): void;
}

/** The answers of one stream. Only one at a time may wait for them. */
export class Answers<T> {
  readonly #queue: T[] = [];
  #isOpen = false;
  #end: { readonly failure?: AttemptFailed } | undefined;
  #wake: (() => void) | undefined;

  constructor(private readonly call: Call<T>) {
    call.on("metadata", () => this.#note(() => (this.#isOpen = true)));
    call.on("data", (message) => this.#note(() => this.#push(message)));
    call.on("end", () => this.#note(() => (this.#end ??= {})));
    call.on("error", (error) =>
      this.#note(() => (this.#end ??= { failure: new AttemptFailed(statusOf(error)) })),
    );
  }

  /** Waits until the server has begun to answer; false if it has not within this time. */
  async opened(patienceMs: number): Promise<boolean> {
    const until = performance.now() + patienceMs;
    while (!this.#isOpen && this.#end === undefined) {
      if (performance.now() >= until) return false;
      await this.#changed(until - performance.now());
    }
    return true;
  }

  /** The next message; undefined at the end. Throws {@link AttemptFailed}. */
  async next(): Promise<T | undefined> {
    for (;;) {
      const message = this.#queue.shift();
      if (message !== undefined) {
        if (this.#queue.length === 0) this.call.resume();
        return message;
      }
      if (this.#end?.failure !== undefined) throw this.#end.failure;
      if (this.#end !== undefined) return undefined;
      await this.#changed();
    }
  }

  /** Ends the call; whoever waits gets the failure of that. */
  cancel(): void {
    this.call.cancel();
    this.#note(() => (this.#end ??= { failure: new AttemptFailed(CANCELLED) }));
  }

  #push(message: T): void {
    this.#queue.push(message);
    if (this.#queue.length >= limits.STREAM_QUEUE_MAX) this.call.pause();
  }

  #note(change: () => void): void {
    change();
    this.#wake?.();
  }

  #changed(patienceMs?: number): Promise<void> {
    return new Promise((resolve) => {
      const stop = patienceMs === undefined ? undefined : after(patienceMs, resolve);
      this.#wake = () => {
        stop?.();
        this.#wake = undefined;
        resolve();
      };
    });
  }
}

const CANCELLED: Status = { code: "CANCELLED", message: "cancelled" };
const NO_ANSWER: Status = { code: "INTERNAL", message: "the call ended without its answer" };

/** Throws for a request that can't be sent, or that no server would take, before it is sent again and again. */
export function checkSize<I extends DescMessage>(schema: I, request: MessageShape<I>): void {
  let length: number;
  try {
    length = toBinary(schema, request).length;
  } catch (error) {
    // A number that does not fit, a text that is none.
    throw new ArgumentError(`the request can't be sent: ${(error as Error).message}`);
  }
  if (length <= limits.MESSAGE_BYTES_MAX) return;
  const message = `the request has ${length} bytes, at most ${limits.MESSAGE_BYTES_MAX} are taken`;
  throw new InvalidError(message, { code: "INVALID_ARGUMENT", reason: "RequestTooLarge" });
}

function pathOf(method: { readonly name: string; readonly parent: { readonly typeName: string } }): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function unsent(message: string): AttemptFailed {
  return new AttemptFailed({ code: "UNAVAILABLE", message, isUnsent: true });
}

/** What gRPC says if its connection was lost before the call was sent. A text that is not known here is the safe side. */
const NOT_CONNECTED = /^(No connection established|Name resolution failed)/;

function statusOf(error: ServiceError): Status {
  const code = statusCodes[error.code] ?? "UNKNOWN";
  const [details] = error.metadata?.get("grpc-status-details-bin") ?? [];
  return {
    code,
    message: error.details,
    details: Buffer.isBuffer(details) ? details : undefined,
    isUnsent: code === "UNAVAILABLE" && NOT_CONNECTED.test(error.details),
  };
}
