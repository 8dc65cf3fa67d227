/**
 * A Job that was submitted or found.
 *
 * Owns: waiting for its end. Does not own: calls.
 */

import { onAbort } from "./abort.js";
import type { Listed } from "./calls.js";
import type { CallOptions, Client, Propagation } from "./client.js";
import { after } from "./clock.js";
import * as errors from "./errors.js";
import type { Job } from "./gen/stint/v1/job_pb.js";
import type { Pod } from "./gen/stint/v1/pod_pb.js";
import { Awaited, checked } from "./jobs.js";
import type { LogsOptions } from "./logs.js";
import type { LogStream } from "./stream.js";

/** What a submit met. */
export interface Submitted {
  /** What is kept without effect, and other advice; for people. */
  readonly warnings: readonly string[];
  /** Whether an earlier attempt of the same request had made the Job; `already deleted`: and it is gone. */
  readonly outcome: "created" | "already existed" | "already deleted";
  /** A watch from here misses no later change of the Job or its Pods. */
  readonly revision: bigint;
  /** The id that the request had. */
  readonly requestId: string;
}

type SignalOption = Pick<CallOptions, "signal">;

/** How a wait ends. */
export interface WaitOptions {
  /** Without it as long as it takes. */
  readonly timeoutMs?: number;
  /** True, which is the default: a Job that has failed is a `JobFailedError`. */
  readonly check?: boolean;
  /** Ends the wait with its reason. */
  readonly signal?: AbortSignal;
}

/** A Job that was submitted or found. */
export class JobHandle {
  readonly #client: Client;
  #known: Job;
  readonly #revision: bigint;

  /** @internal */
  constructor(
    client: Client,
    job: Job,
    /** What the submit met; undefined if the Job was found by its name. */
    readonly submitted: Submitted | undefined,
  ) {
    this.#client = client;
    this.#known = job;
    this.#revision = submitted?.revision ?? job.metadata?.resourceVersion ?? 0n;
  }

  /** The Job as last seen by this handle, and the revision of a watch that misses no later change. @internal */
  get lastSeen(): { readonly job: Job; readonly revision: bigint } {
    return { job: this.#known, revision: this.#revision };
  }

  /** @internal */
  show(job: Job): void {
    this.#known = job;
  }

  /** Its name. */
  get name(): string {
    return this.#known.metadata?.name ?? "";
  }

  /** Its namespace. */
  get namespace(): string {
    return this.#known.metadata?.namespace ?? "";
  }

  /** No other Job has it, before or after. */
  get uid(): string {
    return this.#known.metadata?.uid ?? "";
  }

  /**
   * Waits until the Job has ended; gives it as it is then.
   *
   * Throws `JobFailedError`, `JobDeletedError`, `WaitTimeoutError`, and the errors of a watch.
   */
  async wait(options: WaitOptions = {}): Promise<Job> {
    await waitForEnds(this.#client, [this], this.name, options);
    return (options.check ?? true) ? checked(this.#known) : this.#known;
  }

  /** Reads the Job as it is now. Throws `NotFoundError`, also if another one has its name by now. */
  async get(options: SignalOption = {}): Promise<Job> {
    const job = await this.#client.get(this.name, { ...options, namespace: this.namespace });
    if (job.metadata?.uid === this.uid) return job;
    const message = `job ${this.namespace}/${this.name} was deleted; another one has its name`;
    throw new errors.NotFoundError(message, { code: "NOT_FOUND" });
  }

  /** Deletes the Job; one that is gone already is as wanted. */
  delete(propagation: Propagation = "background", options: SignalOption = {}): Promise<void> {
    const { namespace, uid } = this;
    return this.#client.delete(this.name, { ...options, namespace, uid, propagation });
  }

  /** Reads its Pods. */
  pods(options: SignalOption = {}): Promise<Listed<Pod>> {
    return this.#client.listPods({ ...options, namespace: this.namespace, job: this.name });
  }

  /** Reads the log of one of its Pods. */
  logs(options: LogsOptions = {}): LogStream {
    return this.#client.logs({ job: this.name }, { ...options, namespace: this.namespace });
  }
}

/** Waits until all these Jobs have ended, by one watch for each namespace, of just one name if it is given. @internal */
export async function waitForEnds(
  client: Client,
  handles: readonly JobHandle[],
  name: string,
  options: WaitOptions,
): Promise<void> {
  const given = options.signal;
  if (given?.aborted) throw given.reason;
  const { timeoutMs } = options;
  if (timeoutMs !== undefined && !(timeoutMs >= 0)) {
    throw new errors.ArgumentError(`a wait takes at least 0 ms, not ${timeoutMs}`);
  }
  const giveUp = new AbortController();
  const forget = onAbort(given, () => giveUp.abort(given?.reason));
  const tooLate = () => {
    const what = handles.length === 1 ? "the job has" : `the ${handles.length} jobs have`;
    giveUp.abort(new errors.WaitTimeoutError(`${what} not ended within ${timeoutMs} ms`));
  };
  const stop = timeoutMs === undefined ? undefined : after(timeoutMs, tooLate);
  try {
    for (const namespace of new Set(handles.map((one) => one.namespace))) {
      const ofNamespace = handles.filter((one) => one.namespace === namespace);
      await ends(client, ofNamespace, { namespace, name, signal: giveUp.signal });
    }
  } finally {
    stop?.();
    forget();
    // A watch that ended with an error is not left behind.
    giveUp.abort();
  }
}

async function ends(
  client: Client,
  handles: readonly JobHandle[],
  scope: { readonly namespace: string; readonly name: string; readonly signal: AbortSignal },
): Promise<void> {
  const deleted = handles.find((one) => one.submitted?.outcome === "already deleted");
  if (deleted !== undefined) throw new errors.JobDeletedError(deleted.namespace, deleted.name);
  const awaited = new Awaited(handles.map((one) => one.lastSeen.job));
  if (awaited.left.size > 0) {
    const revisions = handles.filter((one) => awaited.left.has(one.uid)).map((one) => one.lastSeen.revision);
    const [fromRevision = 0n] = revisions.sort((a, b) => (a < b ? -1 : 1));
    for await (const event of client.watch({ ...scope, fromRevision })) {
      awaited.take(event);
      if (awaited.left.size === 0) break;
    }
    if (awaited.left.size > 0) throw new errors.ClosedError();
  }
  for (const one of handles) one.show(awaited.known.get(one.uid) ?? one.lastSeen.job);
}
