/**
 * The client of one cluster.
 *
 * Owns: connections, the calls. Does not own: what is retried (`retry.ts`), how streams go on (`stream.ts`).
 */

import { clone, create } from "@bufbuild/protobuf";
import { ClientConnections, type Listed, listAll } from "./calls.js";
import * as errors from "./errors.js";
import { Cluster, type ClusterStatus, ClusterStatusRequestSchema } from "./gen/stint/v1/cluster_pb.js";
import { type Job, JobSchema } from "./gen/stint/v1/job_pb.js";
import {
  CreateJobRequestSchema,
  type CreateJobResponse,
  CreateOutcome,
  DeleteJobRequestSchema,
  GetJobRequestSchema,
  Jobs,
  ListJobsRequestSchema,
  PropagationPolicy,
  UpdateJobRequestSchema,
  WatchJobsRequestSchema,
} from "./gen/stint/v1/jobs_pb.js";
import { ObjectMetaSchema } from "./gen/stint/v1/meta_pb.js";
import type { Pod } from "./gen/stint/v1/pod_pb.js";
import {
  GetPodRequestSchema,
  ListPodsRequestSchema,
  Pods,
  WatchPodsRequestSchema,
} from "./gen/stint/v1/pods_pb.js";
import { JobHandle, type Submitted, type WaitOptions, waitForEnds } from "./job_handle.js";
import { checked, type JobOptions, makeJob, newRequestId } from "./jobs.js";
import * as limits from "./limits.js";
import { LogState, type LogsOptions, type LogsTarget, logsRequest } from "./logs.js";
import { type ClientOptions, readAddresses, readMetadata } from "./options.js";
import { type EventStream, LogStream, ResumingStream, Watch } from "./stream.js";
import { WatchState } from "./watching.js";

/** What any call takes. */
export interface CallOptions {
  /** Without it the client's. */
  readonly namespace?: string;
  /** Ends the call with its reason; what was sent may be carried out all the same. */
  readonly signal?: AbortSignal;
}

/** Which objects of a kind. */
export interface Scope extends CallOptions {
  /** Objects of all namespaces. */
  readonly allNamespaces?: boolean;
  /** In text form, such as `app=web,!old`. */
  readonly labelSelector?: string;
}

/** Which Pods. */
export interface PodScope extends Scope {
  /** Only those that the Job of this name made. */
  readonly job?: string;
  /** Only those that are bound to this node. */
  readonly node?: string;
}

/** Where a watch begins, and of which object it is. */
export interface WatchOptions {
  /** Only the object of this name. */
  readonly name?: string;
  /** Changes after this revision; without it what there is comes first, as added. */
  readonly fromRevision?: bigint;
}

/** What becomes of a deleted Job's Pods: stopped and deleted; the same, while the Job stays until they are gone; kept. */
export type Propagation = "background" | "foreground" | "orphan";

const PROPAGATION: Readonly<Record<Propagation, PropagationPolicy>> = {
  background: PropagationPolicy.BACKGROUND,
  foreground: PropagationPolicy.FOREGROUND,
  orphan: PropagationPolicy.ORPHAN,
};

const OUTCOMES = new Map<CreateOutcome, Submitted["outcome"]>([
  [CreateOutcome.CREATED, "created"],
  [CreateOutcome.ALREADY_EXISTED, "already existed"],
  [CreateOutcome.ALREADY_DELETED, "already deleted"],
]);

/** A client of one cluster. Connections are shared by all its calls. */
export class Client {
  readonly #connections: ClientConnections;
  readonly #namespace: string;

  /**
   * @param addresses `HOST:PORT` of some or all servers, as a list or separated by commas; without it `STINT_SERVER`, else
   *   `127.0.0.1:7440`. Any server answers any request.
   *
   * Throws `AddressError`, `TokenError` and `ArgumentError`. Does not connect yet.
   */
  constructor(addresses?: string | readonly string[], options: ClientOptions = {}) {
    const timeoutMs = errors.timeLimit(options.timeoutMs ?? limits.CALL_TIMEOUT_DEFAULT_MS);
    this.#namespace = options.namespace ?? "default";
    this.#connections = new ClientConnections(
      readAddresses(addresses),
      readMetadata(options.token),
      timeoutMs,
    );
  }

  /** Closes all connections. Calls that wait end with `ClosedError`, watches and logs just end. */
  close(): void {
    this.#connections.close();
  }

  // Submitting.

  /** Submits a Job of one container. Errors as those of `submit`. */
  run(command: readonly string[], options: JobOptions & CallOptions = {}): Promise<JobHandle> {
    return this.submit(makeJob(command, options), options);
  }

  /**
   * Submits a Job; done once it is stored on a majority of the servers.
   *
   * The request has an id, so that attempts of unknown outcome are repeated without making a second Job. Give `requestId`
   * to find out later what became of a submit that ended with `OutcomeUnknownError`. Where the servers make the name, and it
   * is taken, another is tried.
   *
   * Throws `AlreadyExistsError`, `InvalidError`, `OutcomeUnknownError`, and the errors of every call.
   */
  async submit(
    job: Job,
    options: CallOptions & { readonly requestId?: string; readonly timeoutMs?: number } = {},
  ): Promise<JobHandle> {
    const { length } = Buffer.from(options.requestId ?? "-");
    if (length < 1 || length > limits.REQUEST_ID_BYTES_MAX) {
      throw new errors.ArgumentError(`a request id has 1 to ${limits.REQUEST_ID_BYTES_MAX} bytes`);
    }
    // Later attempts could outlive the servers' memory of the request.
    const givenMs = errors.timeLimit(options.timeoutMs ?? this.#connections.timeoutMs);
    const timeoutMs = Math.min(givenMs, limits.CREATE_REPEAT_MAX_MS);
    const until = performance.now() + timeoutMs;
    // A generated name derives from the request id.
    const isNameFixed = options.requestId !== undefined || (job.metadata?.name ?? "") !== "";
    for (let namesLeft = isNameFixed ? 1 : limits.NAMES_MAX; ; namesLeft -= 1) {
      const requestId = options.requestId ?? newRequestId();
      const request = create(CreateJobRequestSchema, { job: this.#requestJob(job, options), requestId });
      const call = { timeoutMs: Math.max(until - performance.now(), 0), signal: options.signal };
      try {
        const answer = await this.#connections.call("repeatable write", Jobs.method.create, request, call);
        return this.#submitted(answer, requestId);
      } catch (error) {
        if (error instanceof errors.OutcomeUnknownError) error.requestId = requestId;
        if (!(error instanceof errors.AlreadyExistsError) || namesLeft <= 1) throw error;
      }
    }
  }

  #submitted(answer: CreateJobResponse, requestId: string): JobHandle {
    const { job, warnings, revision } = answer;
    const outcome = OUTCOMES.get(answer.outcome);
    if (job === undefined || outcome === undefined) {
      throw new errors.AnswerError("an answer without its job or outcome");
    }
    return new JobHandle(this, job, { warnings, outcome, revision, requestId });
  }

  /** Submits a Job and waits until it has ended; see `submit` and `JobHandle.wait`. */
  async submitAndWait(job: Job, options: CallOptions & WaitOptions = {}): Promise<Job> {
    const { signal, namespace } = options;
    const handle = await this.submit(job, {
      ...(signal === undefined ? {} : { signal }),
      ...(namespace === undefined ? {} : { namespace }),
    });
    return handle.wait(options);
  }

  /**
   * Waits until all these Jobs have ended; gives them as they are then, in the same order.
   *
   * One stream for all of a namespace, where a wait for each needs as many, of which a server takes 4,096. Throws as
   * `JobHandle.wait`; with `check`, for the first that has failed, at the end.
   */
  async waitAll(handles: readonly JobHandle[], options: WaitOptions = {}): Promise<Job[]> {
    await waitForEnds(this, handles, "", options);
    const jobs = handles.map((one) => one.lastSeen.job);
    return (options.check ?? true) ? jobs.map(checked) : jobs;
  }

  // Jobs.

  /** Returns a handle of a Job that exists. Throws `NotFoundError`. */
  async job(name: string, options: CallOptions = {}): Promise<JobHandle> {
    return new JobHandle(this, await this.get(name, options), undefined);
  }

  /** Reads a Job, linearizably. Throws `NotFoundError`. */
  get(name: string, options: CallOptions = {}): Promise<Job> {
    const request = create(GetJobRequestSchema, { namespace: this.#namespaceOf(options), name });
    return this.#connections.call("read", Jobs.method.get, request, options);
  }

  /** Reads all Jobs of a scope as of one revision, page by page. */
  list(scope: Scope = {}): Promise<Listed<Job>> {
    return listAll(async (continueToken) => {
      const request = create(ListJobsRequestSchema, { ...this.#scope(scope), ...page(continueToken) });
      return this.#connections.call("read", Jobs.method.list, request, scope);
    });
  }

  /**
   * Replaces a Job's mutable fields; its uid and resourceVersion are preconditions if set.
   *
   * Throws `NotFoundError`, `ConflictError`, `InvalidError`, and `OutcomeUnknownError`: an update is not repeated.
   */
  async update(job: Job, options: CallOptions = {}): Promise<Job> {
    const request = create(UpdateJobRequestSchema, { job: this.#requestJob(job, options) });
    const answer = await this.#connections.call("write", Jobs.method.update, request, options);
    if (answer.job === undefined) throw new errors.AnswerError("an answer without its job");
    return answer.job;
  }

  /**
   * Deletes a Job. By its uid, which is read first if it is not given, so that attempts can be repeated.
   *
   * Throws `NotFoundError` if there is none of this name and no uid was given: one of that uid is gone then, as wanted.
   * Throws `ConflictError` if the name belongs to another Job by now.
   */
  async delete(
    name: string,
    options: CallOptions & { readonly uid?: string; readonly propagation?: Propagation } = {},
  ): Promise<void> {
    const request = create(DeleteJobRequestSchema, {
      namespace: this.#namespaceOf(options),
      name,
      // Without one a second attempt could delete another Job.
      uid: options.uid || ((await this.get(name, options)).metadata?.uid ?? ""),
      propagationPolicy: PROPAGATION[options.propagation ?? "background"],
    });
    try {
      await this.#connections.call("repeatable write", Jobs.method.delete, request, options);
    } catch (error) {
      if (!(error instanceof errors.NotFoundError)) throw error;
    }
  }

  /** Watches Jobs: changes after a revision, or what there is first, as added. Throws `ClosedError`. */
  watch(options: Scope & WatchOptions = {}): Watch<Job> {
    const state = new WatchState<Job>(options.fromRevision, this.#connections.servers.addresses.length);
    const request = create(WatchJobsRequestSchema, { ...this.#scope(options), name: options.name ?? "" });
    const begin = () => Object.assign(request, { fromRevision: state.opened() });
    const stream = new ResumingStream(this.#connections, Jobs.method.watch, begin, options.signal);
    return new Watch(
      watchStream(stream, (event) => event.job),
      state,
    );
  }

  // Pods.

  /** Reads a Pod, linearizably. Throws `NotFoundError`. */
  getPod(name: string, options: CallOptions = {}): Promise<Pod> {
    const request = create(GetPodRequestSchema, { namespace: this.#namespaceOf(options), name });
    return this.#connections.call("read", Pods.method.get, request, options);
  }

  /** Reads all Pods of a scope as of one revision, page by page. */
  listPods(scope: PodScope = {}): Promise<Listed<Pod>> {
    return listAll(async (continueToken) => {
      const request = create(ListPodsRequestSchema, { ...this.#podScope(scope), ...page(continueToken) });
      return this.#connections.call("read", Pods.method.list, request, scope);
    });
  }

  /** Watches Pods; as `watch`. */
  watchPods(options: PodScope & WatchOptions = {}): Watch<Pod> {
    const state = new WatchState<Pod>(options.fromRevision, this.#connections.servers.addresses.length);
    const request = create(WatchPodsRequestSchema, { ...this.#podScope(options), name: options.name ?? "" });
    const begin = () => Object.assign(request, { fromRevision: state.opened() });
    const stream = new ResumingStream(this.#connections, Pods.method.watch, begin, options.signal);
    return new Watch(
      watchStream(stream, (event) => event.pod),
      state,
    );
  }

  /** Reads the log of a Pod, or of one Pod of a Job. Throws `ClosedError` and `ArgumentError`. */
  logs(target: LogsTarget, options: LogsOptions = {}): LogStream {
    const state = new LogState(logsRequest(target, this.#namespace, options));
    const begin = () => state.opened();
    return new LogStream(
      new ResumingStream(this.#connections, Pods.method.logs, begin, options.signal),
      state,
    );
  }

  // The cluster.

  /**
   * Reads what a server knows of the cluster; also answered when there is no leader. If the server that is asked knows of no
   * leader, as one that is cut off does, the others are asked too.
   */
  async status(options: Pick<CallOptions, "signal"> = {}): Promise<ClusterStatus> {
    const { servers, timeoutMs } = this.#connections;
    const until = performance.now() + timeoutMs;
    const request = create(ClusterStatusRequestSchema);
    let found: ClusterStatus | undefined;
    for (let left = servers.addresses.length; ; left -= 1) {
      const leftMs = Math.max(until - performance.now(), limits.RETRY_PAUSE_FIRST_MS);
      const call = { signal: options.signal, timeoutMs: leftMs };
      try {
        const status = await this.#connections.call("read", Cluster.method.status, request, call);
        if (status.leader !== undefined) return status;
        found ??= status;
      } catch (error) {
        if (found === undefined || !(error instanceof errors.StintError)) throw error;
      }
      if (left <= 1) return found;
      servers.passedOver(servers.first);
    }
  }

  #namespaceOf(options: CallOptions): string {
    return options.namespace ?? this.#namespace;
  }

  #scope(scope: Scope) {
    return {
      namespace: this.#namespaceOf(scope),
      allNamespaces: scope.allNamespaces ?? false,
      labelSelector: scope.labelSelector ?? "",
    };
  }

  #podScope(scope: PodScope) {
    return { ...this.#scope(scope), jobName: scope.job ?? "", nodeName: scope.node ?? "" };
  }

  /** A Job as a request carries it: without status, with a namespace. */
  #requestJob(job: Job, options: CallOptions): Job {
    let metadata = create(ObjectMetaSchema);
    try {
      if (job.metadata !== undefined) metadata = clone(ObjectMetaSchema, job.metadata);
    } catch (error) {
      // A text that is none.
      throw new errors.ArgumentError(`the request can't be sent: ${(error as Error).message}`);
    }
    metadata.namespace ||= this.#namespaceOf(options);
    return create(JobSchema, { metadata, ...(job.spec === undefined ? {} : { spec: job.spec }) });
  }
}

function watchStream<T, M extends { readonly type: number; readonly revision: bigint }>(
  stream: Omit<EventStream<T>, "message"> & { message(): Promise<M | undefined> },
  objectOf: (event: M) => T | undefined,
): EventStream<T> {
  return {
    async message() {
      const event = await stream.message();
      return event && { type: event.type, revision: event.revision, object: objectOf(event) };
    },
    worked: () => stream.worked(),
    broke: (status) => stream.broke(status),
    get isClosed() {
      return stream.isClosed;
    },
    close: () => stream.close(),
  };
}

function page(continueToken: string) {
  return { limit: limits.PAGE_SIZE, continueToken };
}
