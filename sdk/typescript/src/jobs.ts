/**
 * Jobs: making them, and reading how they are.
 *
 * Owns: the common Job as one call; what of a Job's conditions says that it has ended.
 * Does not own: defaults and validation, which are the servers'.
 */

import { randomBytes } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import { ArgumentError, JobDeletedError, JobFailedError, wholeNumber } from "./errors.js";
import { type Job, type JobCondition, JobSchema } from "./gen/stint/v1/job_pb.js";
import { ConditionStatus } from "./gen/stint/v1/meta_pb.js";
import type { WatchEvent } from "./watching.js";

/** What may be said of a Job of one container. */
export interface JobOptions {
  /** Without it the servers make one that begins with the program's. */
  readonly name?: string;
  /** Without it the client's. */
  readonly namespace?: string;
  /** What containers are made from; without it the Job runs as a process of the node. */
  readonly image?: string;
  /** How often it must succeed; the servers' default is 1. */
  readonly completions?: number;
  /** How many run at once; the servers' default is 1. */
  readonly parallelism?: number;
  /** Each Pod gets an index from 0, in `JOB_COMPLETION_INDEX`. */
  readonly indexed?: boolean;
  /** Environment of the container. */
  readonly env?: Readonly<Record<string, string>>;
  /** What a node must have free and what may be used, such as `500m`. */
  readonly cpu?: string;
  /** The same of memory, such as `1Gi`. */
  readonly memory?: string;
  /** Failures that are forgiven; the servers' default is 6. */
  readonly retries?: number;
  /** Milliseconds after the first failure, doubled with each further one; the servers' default is 10,000. */
  readonly backoffMs?: number;
  /** Seconds after its start at which an unfinished Job fails. */
  readonly deadline?: number;
  /** Seconds after its end at which the Job is deleted. */
  readonly ttl?: number;
  /** `Never`, which is the default, or `OnFailure` to start the container again in its Pod. */
  readonly restartPolicy?: "Never" | "OnFailure";
  /** Seconds from SIGTERM to SIGKILL; the servers' default is 30. */
  readonly grace?: number;
  /** `process`, `cri` or `oci`; without it the cluster's default, `process` if there is no image. */
  readonly runtime?: string;
  /** Which Pods get room first: those of the greatest number; the servers' default is 0. */
  readonly priority?: number;
  /** Labels that a node must have. */
  readonly nodeSelector?: Readonly<Record<string, string>>;
  /** Of the Job and of its Pods. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Of the Job: notes for programs and people. */
  readonly annotations?: Readonly<Record<string, string>>;
  /** No Pod runs until the Job is changed. */
  readonly suspend?: boolean;
}

const NAME_PREFIX_MAX = 50;

/**
 * Makes a Job of one container. It is a message of `stint.v1` and can be changed before it is submitted. Throws `ArgumentError`
 * for what can't be in one; what makes sense is the servers' to say.
 */
export function makeJob(command: readonly string[], options: JobOptions = {}): Job {
  const [program] = command;
  if (typeof command === "string" || program === undefined) {
    throw new ArgumentError('a command is a list of words, such as ["sleep", "1"]: no shell splits it');
  }
  const amounts: Record<string, string> = {};
  if (options.cpu !== undefined) amounts.cpu = options.cpu;
  if (options.memory !== undefined) amounts.memory = options.memory;
  const job = create(JobSchema, {
    metadata: {
      namespace: options.namespace ?? "",
      ...(options.name === undefined ? { generateName: prefixOf(program) } : { name: options.name }),
      labels: { ...options.labels },
      annotations: { ...options.annotations },
    },
    spec: {
      template: {
        metadata: { labels: { ...options.labels } },
        spec: {
          restartPolicy: options.restartPolicy ?? "Never",
          nodeSelector: { ...options.nodeSelector },
          containers: [
            {
              name: "main",
              image: options.image ?? "",
              command: [...command],
              env: Object.entries(options.env ?? {}).map(([name, value]) => ({ name, value })),
              resources: { requests: amounts, limits: amounts },
            },
          ],
        },
      },
    },
  });
  const { spec } = job;
  const pod = spec?.template?.spec;
  if (spec === undefined || pod === undefined) throw new TypeError("a message lost its parts");
  if (options.completions !== undefined) spec.completions = options.completions;
  if (options.parallelism !== undefined) spec.parallelism = options.parallelism;
  if (options.indexed) {
    spec.completionMode = "Indexed";
    spec.completions ??= 1;
  }
  if (options.retries !== undefined) spec.backoffLimit = options.retries;
  if (options.backoffMs !== undefined) {
    if (!Number.isFinite(options.backoffMs)) throw new ArgumentError("backoffMs is a number");
    const nanos = BigInt(Math.round(options.backoffMs * 1e6));
    const [seconds, rest] = [nanos / 1_000_000_000n, nanos % 1_000_000_000n];
    spec.backoffBase = create(DurationSchema, { seconds, nanos: Number(rest) });
  }
  if (options.deadline !== undefined) spec.activeDeadlineSeconds = wholeNumber(options.deadline, "deadline");
  if (options.ttl !== undefined) spec.ttlSecondsAfterFinished = options.ttl;
  if (options.suspend) spec.suspend = true;
  if (options.grace !== undefined) pod.terminationGracePeriodSeconds = wholeNumber(options.grace, "grace");
  if (options.priority !== undefined) pod.priority = options.priority;
  const runtime = options.runtime ?? (options.image ? undefined : "process");
  if (runtime !== undefined) pod.runtimeClassName = runtime;
  return job;
}

/** Makes an id that no other submit has. */
export function newRequestId(): string {
  return randomBytes(16).toString("hex");
}

/** Returns the condition of this type if it holds. */
export function condition(job: Job, type: string): JobCondition | undefined {
  return job.status?.conditions.find((one) => one.type === type && one.status === ConditionStatus.TRUE);
}

/** Says whether the Job has succeeded. */
export function isComplete(job: Job): boolean {
  return condition(job, "Complete") !== undefined;
}

/** Says whether the Job has failed. */
export function isFailed(job: Job): boolean {
  return condition(job, "Failed") !== undefined;
}

/** Says whether the Job has ended: no Pod of it runs or will. */
export function isFinished(job: Job): boolean {
  return isComplete(job) || isFailed(job);
}

/** Returns the Job; throws {@link JobFailedError} if it has failed. */
export function checked(job: Job): Job {
  const failure = condition(job, "Failed");
  if (failure !== undefined) throw new JobFailedError(job, failure.reason, failure.message);
  return job;
}

/** Jobs of one namespace whose end is waited for. */
export class Awaited {
  /** By uid, as last seen. */
  readonly known = new Map<string, Job>();
  /** Uids of those that have not ended. */
  readonly left = new Set<string>();

  constructor(jobs: Iterable<Job>) {
    for (const job of jobs) {
      this.known.set(uidOf(job), job);
      if (!isFinished(job)) this.left.add(uidOf(job));
    }
  }

  /** Takes an event of a watch that shows all of them; throws {@link JobDeletedError} if one of those left is gone. */
  take(event: WatchEvent<Job>): void {
    let gone: string | undefined;
    if (event.kind === "relisted") {
      const there = new Set(event.objects.map(uidOf));
      gone = [...this.left].find((uid) => !there.has(uid));
      for (const job of event.objects) this.#show(job);
    } else {
      const uid = uidOf(event.object);
      if (event.kind === "deleted" && this.left.has(uid)) gone = uid;
      this.#show(event.object);
    }
    if (gone === undefined) return;
    const metadata = this.known.get(gone)?.metadata;
    throw new JobDeletedError(metadata?.namespace ?? "", metadata?.name ?? "");
  }

  #show(job: Job): void {
    const uid = uidOf(job);
    if (!this.left.has(uid)) return;
    this.known.set(uid, job);
    if (isFinished(job)) this.left.delete(uid);
  }
}

function uidOf(job: Job): string {
  return job.metadata?.uid ?? "";
}

/** Makes a prefix for generated names out of a program's path. */
function prefixOf(program: string): string {
  const base = program.slice(program.lastIndexOf("/") + 1).toLowerCase();
  const words = base.replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
  return `${words.slice(0, NAME_PREFIX_MAX).replace(/-$/, "") || "job"}-`;
}
