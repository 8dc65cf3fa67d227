/** Jobs, watches and logs on a real cluster. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  AlreadyExistsError,
  Client,
  ClosedError,
  ConflictError,
  isComplete,
  isFailed,
  JobDeletedError,
  JobFailedError,
  makeJob,
  NotFoundError,
  newRequestId,
  PodPhase,
  WaitTimeoutError,
} from "../src/index.js";
import { Cluster, eventually, PATIENCE_MS } from "./support/cluster.js";

let cluster: Cluster;
let client: Client;

before(async () => {
  cluster = await Cluster.start(1);
  client = cluster.client();
});

after(() => cluster.close());

const newName = (what: string) => `${what}-${newRequestId().slice(0, 8)}`;

test("a Job runs to its end, and its Pods and logs are there", async () => {
  const handle = await client.run(["sh", "-c", "echo out $JOB_COMPLETION_INDEX $WORD; echo err >&2"], {
    completions: 10,
    parallelism: 4,
    indexed: true,
    env: { WORD: "täglich" },
  });
  const job = await handle.wait({ timeoutMs: PATIENCE_MS });
  assert.ok(isComplete(job));
  assert.equal(job.status?.succeeded, 10);
  const { items } = await handle.pods();
  assert.deepEqual(
    items.map((pod) => pod.completionIndex ?? -1).sort((a, b) => a - b),
    Array.from({ length: 10 }, (_, index) => index),
  );
  for (const pod of items) {
    const name = pod.metadata?.name ?? "";
    const log = client.logs({ pod: name });
    const lines: string[] = [];
    for await (const line of log.lines()) lines.push(line);
    assert.deepEqual(lines.sort(), ["err", `out ${pod.completionIndex} täglich`]);
    assert.equal(log.source?.podName, name);
    assert.equal((await client.getPod(name)).status?.phase, PodPhase.SUCCEEDED);
  }
  assert.equal((await handle.get()).metadata?.uid, handle.uid);
});

test("a Job that fails is told by its reason", async () => {
  const handle = await client.run(["sh", "-c", "exit 3"], { retries: 0 });
  await assert.rejects(
    handle.wait({ timeoutMs: PATIENCE_MS }),
    (error) => error instanceof JobFailedError && error.reason === "BackoffLimitExceeded",
  );
  assert.ok(isFailed(await handle.wait({ check: false })));
  assert.ok(isFailed(await (await client.job(handle.name)).wait({ check: false })));
  await assert.rejects(client.submitAndWait(makeJob(["false"], { retries: 0 })), JobFailedError);
});

test("waiting ends in time, with its signal and with the Job", async () => {
  const handle = await client.run(["sleep", "1000"], { grace: 1 });
  await assert.rejects(handle.wait({ timeoutMs: 300 }), WaitTimeoutError);
  const reason = new Error("enough");
  const aborted = handle.wait({ signal: AbortSignal.abort(reason) });
  await assert.rejects(aborted, reason);
  const controller = new AbortController();
  const waiting = handle.wait({ signal: controller.signal });
  setTimeout(() => controller.abort(reason), 100);
  await assert.rejects(waiting, reason);
  const waited = assert.rejects(handle.wait({ timeoutMs: PATIENCE_MS }), JobDeletedError);
  await sleep(200);
  await handle.delete();
  await waited;
  await handle.delete();
  await assert.rejects(handle.get(), NotFoundError);
  await assert.rejects(client.delete(handle.name), NotFoundError);
});

test("many Jobs are waited for at once", async () => {
  const handles = [];
  for (const namespace of [newName("all"), newName("all")]) {
    for (let number = 0; number < 10; number += 1) {
      handles.push(await client.run(["true"], { name: `j${number}`, namespace }));
    }
  }
  const patient = { timeoutMs: PATIENCE_MS };
  const jobs = await client.waitAll(handles, patient);
  assert.deepEqual(
    jobs.map((job) => job.metadata?.uid),
    handles.map((handle) => handle.uid),
  );
  assert.ok(jobs.every(isComplete));
  assert.deepEqual(await client.waitAll(handles, patient), jobs, "what has ended is known");
  assert.deepEqual(await client.waitAll([]), []);
  handles.push(await client.run(["false"], { retries: 0 }));
  await assert.rejects(client.waitAll(handles, patient), JobFailedError);
  const withFailed = await client.waitAll(handles, { ...patient, check: false });
  assert.ok(isFailed(withFailed.at(-1) ?? assert.fail("none")));
  const sleeping = await client.run(["sleep", "1000"], { grace: 1 });
  handles.push(sleeping);
  await assert.rejects(client.waitAll(handles, { timeoutMs: 300 }), WaitTimeoutError);
  await sleeping.delete();
  await assert.rejects(client.waitAll(handles, patient), JobDeletedError);
});

test("a name that another Job took is not mistaken for the first", async () => {
  const name = newName("twice");
  const first = await client.run(["sleep", "1000"], { name, grace: 1 });
  await first.delete();
  const second = await client.run(["sleep", "1000"], { name, grace: 1 });
  await assert.rejects(first.get(), /another one/);
  await assert.rejects(first.wait({ timeoutMs: PATIENCE_MS }), JobDeletedError);
  await assert.rejects(client.delete(name, { uid: first.uid }), ConflictError);
  await second.delete();
});

test("decision 10: a request id makes one Job, however often it is sent", async () => {
  const job = makeJob(["true"]);
  const requestId = newName("id");
  const first = await client.submit(job, { requestId });
  assert.equal(first.submitted?.outcome, "created");
  const again = await client.submit(job, { requestId });
  assert.equal(again.submitted?.outcome, "already existed");
  assert.deepEqual([again.uid, again.name], [first.uid, first.name]);
  await again.wait({ timeoutMs: PATIENCE_MS });
  await first.delete();
  const gone = await client.submit(job, { requestId });
  assert.equal(gone.submitted?.outcome, "already deleted");
  await assert.rejects(gone.wait(), JobDeletedError);
  const named = makeJob(["true"], { name: newName("named") });
  await client.submit(named);
  await assert.rejects(client.submit(named), AlreadyExistsError);
});

test("an update has preconditions", async () => {
  const handle = await client.run(["true"], { suspend: true });
  const job = await handle.get();
  if (job.spec === undefined) throw new Error("a Job without its spec");
  job.spec.parallelism = 3;
  const changed = await client.update(job);
  assert.equal(changed.spec?.parallelism, 3);
  await assert.rejects(client.update(job), ConflictError);
  if (changed.spec !== undefined) changed.spec.suspend = false;
  await client.update(changed);
  await handle.wait({ timeoutMs: PATIENCE_MS });
});

test("lists come whole and filtered", async () => {
  const namespace = newName("many");
  const names = Array.from({ length: 12 }, (_, number) => `j${String(number).padStart(2, "0")}`);
  for (const [number, name] of names.entries()) {
    const labels = { parity: number % 2 === 0 ? "even" : "odd" };
    await client.run(["true"], { name, namespace, labels, suspend: true });
  }
  const listed = await client.list({ namespace });
  assert.deepEqual(
    listed.items.map((job) => job.metadata?.name),
    names,
  );
  assert.ok(listed.revision > 0n);
  assert.equal((await client.list({ namespace, labelSelector: "parity=odd" })).items.length, 6);
  const everywhere = await client.list({ allNamespaces: true, labelSelector: "parity in (even, odd)" });
  assert.equal(everywhere.items.length, 12);
  assert.equal((await client.listPods({ namespace })).items.length, 0);
});

test("a watch gives what there is and then each change once", async () => {
  const namespace = newName("watched");
  await client.run(["true"], { name: "before", namespace, suspend: true });
  const watch = client.watch({ namespace });
  const first = (await watch.next()).value;
  assert.ok(first?.kind === "added" && first.object.metadata?.name === "before");
  const handle = await client.run(["true"], { name: "after", namespace });
  await handle.wait({ timeoutMs: PATIENCE_MS });
  await handle.delete();
  const kinds: string[] = [];
  const revisions: bigint[] = [];
  for await (const event of watch) {
    assert.ok(event.kind !== "relisted" && event.object.metadata?.name === "after");
    kinds.push(event.kind);
    revisions.push(event.revision);
    if (event.kind === "deleted") break;
  }
  assert.equal(kinds[0], "added");
  assert.deepEqual(new Set(kinds.slice(1, -1)), new Set(["modified"]));
  assert.ok(revisions.every((revision, index) => index === 0 || revision > (revisions[index - 1] ?? 0n)));
  assert.equal((await watch.next()).done, true, "leaving the iteration has closed it");
  // From a revision in between the rest comes again, and only that.
  const rest: bigint[] = [];
  for await (const event of client.watch({ namespace, fromRevision: revisions[1] ?? 0n })) {
    rest.push(event.revision);
    if (rest.length === revisions.length - 2) break;
  }
  assert.deepEqual(rest, revisions.slice(2));
});

test("a watch of Pods sees them come and end", async () => {
  const handle = await client.run(["true"], { completions: 3 });
  const phases = new Map<string, PodPhase>();
  const fromRevision = handle.submitted?.revision ?? 0n;
  for await (const event of client.watchPods({ job: handle.name, fromRevision })) {
    assert.ok(event.kind !== "relisted");
    phases.set(event.object.metadata?.name ?? "", event.object.status?.phase ?? PodPhase.UNSPECIFIED);
    if (phases.size === 3 && [...phases.values()].every((phase) => phase === PodPhase.SUCCEEDED)) break;
  }
});

test("closing and signals end whoever waits", async () => {
  const other = new Client(cluster.addressList);
  const handle = await other.run(["sleep", "1000"], { grace: 1 });
  const fromRevision = (await other.list()).revision;
  const drain = async (stream: AsyncIterable<unknown>) => {
    for await (const _ of stream);
    return "ended";
  };
  const controller = new AbortController();
  const reason = new Error("enough");
  const aborted = drain(other.watch({ fromRevision, signal: controller.signal }));
  const closed = other.watch({ fromRevision });
  const waiting = [drain(closed), drain(other.watch({ fromRevision })), drain(handle.logs({ follow: true }))];
  const ends = assert.rejects(handle.wait(), ClosedError);
  await sleep(300);
  controller.abort(reason);
  await assert.rejects(aborted, reason);
  closed.close();
  assert.equal(await waiting[0], "ended");
  const reading = assert.rejects(
    (async () => {
      for (;;) await other.get("first");
    })(),
    ClosedError,
  );
  await sleep(50);
  other.close();
  assert.deepEqual(await Promise.all(waiting), ["ended", "ended", "ended"]);
  await ends;
  await reading;
  await assert.rejects(other.status(), ClosedError);
  await assert.rejects(client.status({ signal: AbortSignal.abort(reason) }), reason);
  await client.delete(handle.name);
});

test("a log is followed while it is written", async () => {
  const handle = await client.run(["sh", "-c", "for n in 1 2 3 4 5; do echo line $n; sleep 0.2; done"]);
  const lines: string[] = [];
  for await (const line of handle.logs({ follow: true, timestamps: true }).lines()) lines.push(line);
  assert.deepEqual(
    lines.map((line) => line.slice(line.indexOf(" ") + 1)),
    [1, 2, 3, 4, 5].map((number) => `line ${number}`),
  );
  const tail = Buffer.from(await handle.logs({ tailLines: 2 }).read()).toString();
  assert.equal(tail, "line 4\nline 5\n");
  const since = new Date(Date.now() - 3_600_000);
  assert.equal(
    Buffer.from(await handle.logs({ since }).read())
      .toString()
      .split("\n").length,
    6,
  );
  await assert.rejects(client.logs({ pod: "no-such-pod" }).read(), NotFoundError);
});

test("a watch that was left behind tells of its relist", async () => {
  const own = await Cluster.start(1);
  try {
    const there = own.client();
    const fromRevision = (await there.list()).revision;
    await (await there.run(["true"], { name: "later" })).wait({ timeoutMs: PATIENCE_MS });
    // What servers keep for watches is in their memory.
    await own.kill("s1");
    await own.startServer("s1");
    await eventually("the server is back", async () => (await own.leader(there)) !== undefined);
    const watch = there.watch({ fromRevision });
    const relisted = (await watch.next()).value;
    assert.ok(relisted?.kind === "relisted");
    assert.deepEqual(relisted.objects.map((job) => job.metadata?.name).sort(), ["first", "later"]);
    await there.run(["true"], { name: "third" });
    const added = (await watch.next()).value;
    assert.ok(added?.kind === "added" && added.object.metadata?.name === "third");
    assert.ok(added.revision > relisted.revision);
    watch.close();
  } finally {
    await own.close();
  }
});
