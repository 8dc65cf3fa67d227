/** Decision 10 under faults: submits during two kills of the leader make each Job once, and each Job runs once. */

import assert from "node:assert/strict";
import { chmod, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type Client,
  isComplete,
  type Job,
  makeJob,
  newRequestId,
  OutcomeUnknownError,
  PodPhase,
  UnavailableError,
  UnreachableError,
} from "../src/index.js";
import { Cluster, eventually, PATIENCE_MS } from "./support/cluster.js";

const N_JOBS = process.env.STINT_TESTS_FULL ? 10_000 : 1_000;
const N_SUBMITTERS = 16;
const N_KILLS = 2;
const PATIENCE_FOR_ALL_MS = 300_000 + N_JOBS * 200;
const NAMESPACE = "kills";

/** Kills the leader twice, each time in the middle of the submits, and starts it again. */
async function kills(cluster: Cluster, client: Client, uids: ReadonlyMap<string, string>): Promise<void> {
  for (let number = 1; number <= N_KILLS; number += 1) {
    const wanted = (N_JOBS * number) / (N_KILLS + 1);
    await eventually("enough are submitted", () => uids.size >= wanted, PATIENCE_FOR_ALL_MS);
    const leader = await cluster.killLeader(client);
    await sleep(1_000);
    await cluster.startServer(leader);
  }
}

/** Submits a Job until it is known to be there, always with the same request id. Returns its uid. */
async function submitUntilKnown(client: Client, job: Job, unknown: string[]): Promise<string> {
  const requestId = newRequestId();
  const until = Date.now() + 240_000;
  while (Date.now() < until) {
    try {
      const handle = await client.submit(job, { requestId });
      assert.notEqual(handle.submitted?.outcome, "already deleted");
      return handle.uid;
    } catch (error) {
      if (error instanceof OutcomeUnknownError) unknown.push(error.requestId ?? "");
      // These attempts changed nothing; earlier ones may have.
      else if (!(error instanceof UnreachableError || error instanceof UnavailableError)) throw error;
    }
  }
  throw new Error(`${job.metadata?.name} could not be submitted`);
}

test("decision 10: Jobs submitted while leaders are killed exist and run once", async () => {
  const cluster = await Cluster.start(3);
  try {
    const ranFile = join(cluster.shared, "ran");
    await writeFile(ranFile, "");
    await chmod(ranFile, 0o666);
    const observer = cluster.client();
    const uids = new Map<string, string>();
    const unknown: string[] = [];
    const finished = new Map<string, string>();
    const revisions: bigint[] = [];
    let nRelists = 0;
    let nAdded = 0;
    // Not from what there is: that has one revision for all.
    const fromRevision = (await observer.list()).revision;
    const watch = async () => {
      for await (const event of observer.watch({ namespace: NAMESPACE, fromRevision })) {
        assert.notEqual(event.kind, "deleted");
        if (event.kind === "added") nAdded += 1;
        if (event.kind === "relisted") nRelists += 1;
        else revisions.push(event.revision);
        for (const job of event.kind === "relisted" ? event.objects : [event.object]) {
          if (isComplete(job)) finished.set(job.metadata?.name ?? "", job.metadata?.uid ?? "");
        }
        if (finished.size === N_JOBS) return;
      }
    };
    const watching = watch();
    // A short time limit, so that calls which meet a dead leader end as unknown and have to be resolved.
    const client = cluster.client({ timeoutMs: 1_000 });
    let next = 0;
    const submitter = async () => {
      while (next < N_JOBS) {
        const name = `job-${next++}`;
        const command = ["/bin/sh", "-c", `echo ${name} >> ${ranFile}`];
        const job = makeJob(command, { name, namespace: NAMESPACE });
        uids.set(name, await submitUntilKnown(client, job, unknown));
      }
    };
    const submitting = Array.from({ length: N_SUBMITTERS }, submitter);
    await Promise.all([kills(cluster, observer, uids), ...submitting]);
    await Promise.race([
      watching,
      sleep(PATIENCE_FOR_ALL_MS, undefined, { ref: false }).then(() => assert.fail("not all have finished")),
    ]);

    assert.deepEqual(finished, uids, "each Job is the one that its submit was answered with");
    const { items } = await observer.list({ namespace: NAMESPACE });
    assert.deepEqual(new Map(items.map(({ metadata }) => [metadata?.name ?? "", metadata?.uid ?? ""])), uids);
    assert.ok(items.every(({ status }) => status?.succeeded === 1 && status.failed === 0));
    assert.equal((await observer.listPods({ namespace: NAMESPACE })).items.length, N_JOBS);
    const ran = (await readFile(ranFile, "utf8")).trim().split("\n");
    assert.deepEqual(ran.sort(), [...uids.keys()].sort(), "each ran once");
    if (nRelists === 0) {
      assert.equal(nAdded, N_JOBS, "each came once");
      assert.ok(revisions.every((one, index) => index === 0 || one > (revisions[index - 1] ?? 0n)));
    }
    console.log(`${N_JOBS} jobs, ${unknown.length} unknown outcomes resolved, ${nRelists} relists`);
  } finally {
    await cluster.close();
  }
});

test("a leader that stops without a word is left for another", async () => {
  const cluster = await Cluster.start(3);
  try {
    const client = cluster.client({ timeoutMs: PATIENCE_MS });
    const handle = await client.run(["sleep", "5"]);
    const watch = client.watchPods({ job: handle.name });
    await watch.next();
    const leader = await cluster.leader(client);
    assert.ok(leader);
    cluster.signal(leader, "SIGSTOP");
    try {
      assert.equal((await client.get(handle.name)).metadata?.uid, handle.uid);
      await handle.wait({ timeoutMs: PATIENCE_MS });
      for await (const event of watch) {
        const pods = event.kind === "relisted" ? event.objects : [event.object];
        if (pods.some((pod) => pod.status?.phase === PodPhase.SUCCEEDED)) break;
      }
    } finally {
      cluster.signal(leader, "SIGCONT");
    }
  } finally {
    await cluster.close();
  }
});
