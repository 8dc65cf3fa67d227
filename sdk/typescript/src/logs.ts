/**
 * Logs: what they give, and how they go on after a broken connection.
 *
 * Owns: the place in a log from which a new stream goes on; lines. Does not own: connections.
 */

import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { LogBrokeError, wholeNumber } from "./errors.js";
import {
  type LogCut,
  type LogSource,
  LogStream as LogStreamKind,
  type PodLogsChunk,
  type PodLogsRequest,
  PodLogsRequestSchema,
} from "./gen/stint/v1/pods_pb.js";
import { LINE_LENGTH_MAX } from "./limits.js";

/** Which log, and which part of it. */
export interface LogsOptions {
  /** Without it the client's. */
  readonly namespace?: string;
  /** The container; needed if there are several. */
  readonly container?: string;
  /** Which run of the container; without it the present or last one. */
  readonly restartCount?: number;
  /** The run before that. */
  readonly previous?: boolean;
  /** Go on until the container has ended. */
  readonly follow?: boolean;
  /** Begin so many lines before the end. */
  readonly tailLines?: number;
  /** Leave out what is older: than so many seconds, or than a moment. */
  readonly since?: number | Date;
  /** Begin each line with the time at which it was written. */
  readonly timestamps?: boolean;
  /** Ends the stream with its reason. */
  readonly signal?: AbortSignal;
}

/** Whose log: of the Pod of this name, or of one Pod of the Job of this name: a running one first, then the newest. */
export type LogsTarget = { readonly pod: string } | { readonly job: string };

/** A piece of a log: output, or the note that output is missing. */
export interface LogPiece {
  /** Output; not necessarily whole lines, nor UTF-8. Empty if `cut` is set. */
  readonly data: Uint8Array;
  /** Where it was written to; `both`: as it was written, and not told apart. */
  readonly stream: "stdout" | "stderr" | "both";
  /** Output is missing here: why, and from which node. */
  readonly cut: LogCut | undefined;
}

/** Makes the request for a log. */
export function logsRequest(target: LogsTarget, namespace: string, options: LogsOptions): PodLogsRequest {
  const request = create(PodLogsRequestSchema, {
    namespace: options.namespace ?? namespace,
    target: "pod" in target ? { case: "podName", value: target.pod } : { case: "jobName", value: target.job },
    container: options.container ?? "",
    previous: options.previous ?? false,
    follow: options.follow ?? false,
    timestamps: options.timestamps ?? false,
  });
  if (options.restartCount !== undefined) request.restartCount = options.restartCount;
  if (options.tailLines !== undefined) request.tailLines = wholeNumber(options.tailLines, "tailLines");
  if (options.since instanceof Date) {
    request.since = { case: "sinceTime", value: timestampFromDate(options.since) };
  } else if (options.since !== undefined) {
    // Rounded up: rather a little more than a line too few.
    request.since = { case: "sinceSeconds", value: wholeNumber(Math.ceil(options.since), "since") };
  }
  return request;
}

/** How far a log is read. */
export class LogState {
  /** Whose log it is, once the first message has come. */
  source: LogSource | undefined;
  /** The last message brought the log further than any stream has been. */
  hasAdvanced = false;
  /** Bytes given after the last position that the stream has named: a new stream begins with them again. */
  #givenSinceOffset = 0;
  #repeated = 0;

  constructor(private readonly request: PodLogsRequest) {}

  /** Returns what a new stream asks for. Throws if it would not begin where the last one ended. */
  opened(): PodLogsRequest {
    const beginsElsewhere = this.request.tailLines !== undefined || this.request.since.case !== undefined;
    if (this.#givenSinceOffset > 0 && beginsElsewhere) throw new LogBrokeError();
    this.#repeated = this.#givenSinceOffset;
    return this.request;
  }

  /** Says what a message gives. */
  take(chunk: PodLogsChunk): LogPiece | undefined {
    const { request } = this;
    if (chunk.source !== undefined) {
      // From now on this very run.
      this.source = chunk.source;
      request.target = { case: "podName", value: chunk.source.podName };
      request.podUid = chunk.source.podUid;
      request.restartCount = chunk.source.restartCount;
      request.previous = false;
    }
    const skipped = Math.min(this.#repeated, chunk.data.length);
    this.#repeated -= skipped;
    const data = chunk.data.subarray(skipped);
    this.#givenSinceOffset += data.length;
    this.hasAdvanced = data.length > 0;
    if (chunk.nextOffset > (request.offset ?? 0n)) {
      // And from this very place: what is there is neither too old nor before the tail.
      request.offset = chunk.nextOffset;
      delete request.tailLines;
      request.since = { case: undefined };
      this.#givenSinceOffset = 0;
      this.#repeated = 0;
      this.hasAdvanced = true;
    }
    if (data.length === 0 && chunk.cut === undefined) return undefined;
    return { data, stream: streamName(chunk.stream), cut: chunk.cut };
  }
}

function streamName(kind: LogStreamKind): LogPiece["stream"] {
  if (kind === LogStreamKind.STDOUT) return "stdout";
  return kind === LogStreamKind.STDERR ? "stderr" : "both";
}

/** Puts the pieces of a log together to lines, in the order in which they were written. */
export class Lines {
  // Keeps the bytes of a character that was torn apart.
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #rest = "";

  /** Gives the lines that are whole now, without their ends; a line of more than 1 MiB in pieces. */
  take(piece: Pick<LogPiece, "data">): string[] {
    const [first = "", ...more] = this.#decoder.decode(piece.data, { stream: true }).split("\n");
    this.#rest += first;
    const lines: string[] = [];
    for (const begin of more) {
      lines.push(this.#rest);
      this.#rest = begin;
    }
    if (this.#rest.length >= LINE_LENGTH_MAX) {
      lines.push(this.#rest);
      this.#rest = "";
    }
    return lines;
  }

  /** Gives what was not ended by a line end. */
  rest(): string[] {
    const rest = this.#rest + this.#decoder.decode();
    this.#rest = "";
    return rest === "" ? [] : [rest];
  }
}
