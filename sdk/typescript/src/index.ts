/** Client of the stint work queue. See README.md. */

export type { Listed } from "./calls.js";
export {
  type CallOptions,
  Client,
  type PodScope,
  type Propagation,
  type Scope,
  type WatchOptions,
} from "./client.js";
export * from "./errors.js";
export type { ClusterStatus } from "./gen/stint/v1/cluster_pb.js";
export { type Job, JobSchema } from "./gen/stint/v1/job_pb.js";
export { type Pod, PodPhase, PodSchema } from "./gen/stint/v1/pod_pb.js";
export type { LogCut, LogSource } from "./gen/stint/v1/pods_pb.js";
export { JobHandle, type Submitted, type WaitOptions } from "./job_handle.js";
export {
  condition,
  isComplete,
  isFailed,
  isFinished,
  type JobOptions,
  makeJob,
  newRequestId,
} from "./jobs.js";
export type { LogPiece, LogsOptions, LogsTarget } from "./logs.js";
export type { ClientOptions } from "./options.js";
export { LogStream, Watch } from "./stream.js";
export type { Change, Relisted, WatchEvent } from "./watching.js";
