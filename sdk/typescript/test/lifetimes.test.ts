/** Clients that end early, and are shared: closing, signals, many at once, connections that end. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import type { Socket } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { JobWatchEventSchema, WatchJobsRequestSchema } from "../src/gen/stint/v1/jobs_pb.js";
import { WatchEventType } from "../src/gen/stint/v1/meta_pb.js";
import { PodLogsChunkSchema } from "../src/gen/stint/v1/pods_pb.js";
import {
  Client,
  ClosedError,
  JobDeletedError,
  makeJob,
  OutcomeUnknownError,
  StintError,
  UnreachableError,
} from "../src/index.js";
import { Cluster, PATIENCE_MS } from "./support/cluster.js";
import { failure, type Stream, type Unary, withGrpcServer, withRawServer } from "./support/hostile.js";

/** More than a server takes on one connection. */
const N_WAITS = 1_500;
/** How long what ends at once may take: less than the pause that a busy server asks for. */
const AT_ONCE_MS = 8_000;
const ENOUGH = new Error("enough");
const run = promisify(execFile);

let cluster: Cluster;

before(async () => {
  cluster = await Cluster.start(1);
});

after(() => cluster.close());

type Call = (client: Client, signal?: AbortSignal) => Promise<unknown>;

const WRITES: Record<string, Call> = {
  create: (client, signal) => client.submit(makeJob(["true"]), optional(signal)),
  update: (client, signal) => client.update(makeJob(["true"], { name: "any" }), optional(signal)),
  delete: (client, signal) => client.delete("any", { ...optional(signal), uid: "u" }),
};
const READS: Record<string, Call> = {
  get: (client, signal) => client.get("any", optional(signal)),
  list: (client, signal) => client.list(optional(signal)),
  status: (client, signal) => client.status(optional(signal)),
};
const STREAMS: Record<string, Call> = {
  watch: (client, signal) => client.watch(optional(signal)).next(),
  logs: (client, signal) => client.logs({ pod: "any" }, optional(signal)).read(),
};
const CALLS = { ...READS, ...WRITES, ...STREAMS };

function optional(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

const LATER = failure(status.UNAVAILABLE, "NoLeader", "later", { retryAfterMs: 10_000 });
const SILENT: { unary: Unary; stream: Stream } = {
  unary: () => undefined,
  stream: () => ({ messages: [], end: "never" }),
};
const BUSY: typeof SILENT = { unary: () => LATER, stream: () => ({ messages: [], end: LATER }) };

/** Fails if it takes much longer than it should. */
async function soon<T>(what: string, given: Promise<T>): Promise<T> {
  const stop = new AbortController();
  const late = sleep(AT_ONCE_MS, undefined, { signal: stop.signal }).then(
    () => assert.fail(`${what} goes on`),
    () => given,
  );
  try {
    return await Promise.race([given, late]);
  } finally {
    stop.abort();
  }
}

function event(type: WatchEventType, revision: bigint, name?: string): Buffer {
  const job = name === undefined ? {} : { job: { metadata: { name } } };
  return Buffer.from(toBinary(JobWatchEventSchema, create(JobWatchEventSchema, { type, revision, ...job })));
}

test("a signal ends any call with its reason, whatever it waits for", async () => {
  const servers = { silent: SILENT, busy: BUSY };
  for (const [what, behaviour] of Object.entries(servers)) {
    await withGrpcServer(behaviour, async (address) => {
      const client = new Client(address, { timeoutMs: PATIENCE_MS });
      for (const [name, call] of Object.entries(CALLS)) {
        for (const delayMs of [undefined, 0, 300]) {
          const controller = new AbortController();
          if (delayMs === undefined) controller.abort(ENOUGH);
          else setTimeout(() => controller.abort(ENOUGH), delayMs);
          const given = call(client, controller.signal);
          await soon(`${name}, ${what}`, assert.rejects(given, ENOUGH));
        }
      }
      client.close();
    });
  }
  // While there is no connection yet.
  await withRawServer(
    () => undefined,
    async (address) => {
      const client = new Client(address, { timeoutMs: PATIENCE_MS });
      for (const call of Object.values(CALLS)) {
        await assert.rejects(call(client, AbortSignal.timeout(100)), { name: "TimeoutError" });
      }
      client.close();
    },
  );
});

test("closing a client ends all that waits, and nothing begins with it any more", async () => {
  for (const behaviour of [SILENT, BUSY]) {
    await withGrpcServer(behaviour, async (address) => {
      const client = new Client(address, { timeoutMs: PATIENCE_MS });
      const given = Object.entries(CALLS).map(async ([name, call]) => {
        if (name === "watch") assert.deepEqual(await call(client), { done: true, value: undefined });
        else await assert.rejects(call(client), ClosedError, name);
      });
      await sleep(500);
      client.close();
      client.close();
      await soon("a call of a closed client", Promise.all(given));
      for (const call of Object.values(CALLS)) await assert.rejects(async () => call(client), ClosedError);
    });
  }
});

test("a log that was closed half way is not given as all", async () => {
  const chunk = create(PodLogsChunkSchema, { data: Buffer.from("half"), nextOffset: 4n });
  const stream: Stream = () => ({
    messages: [Buffer.from(toBinary(PodLogsChunkSchema, chunk))],
    end: "never",
  });
  await withGrpcServer({ stream }, async (address) => {
    const client = new Client(address, { timeoutMs: PATIENCE_MS });
    const log = client.logs({ pod: "any" });
    setTimeout(() => log.close(), 300);
    await soon("a log", assert.rejects(log.read(), ClosedError));
    client.close();
  });
});

test("who asks again before the last event has come gets the one after it", async () => {
  const stream: Stream = (request) => {
    const { fromRevision } = fromBinary(WatchJobsRequestSchema, request);
    const revisions = Array.from({ length: 50 }, (_, index) => fromRevision + BigInt(index) + 1n);
    return { messages: revisions.map((one) => event(WatchEventType.MODIFIED, one, "a")), end: "never" };
  };
  await withGrpcServer({ stream }, async (address) => {
    const client = new Client(address, { timeoutMs: PATIENCE_MS });
    const watch = client.watch({ fromRevision: 1n });
    const given = await Promise.all(Array.from({ length: 50 }, () => watch.next()));
    assert.deepEqual(
      given.map((one) => Number(one.value?.revision)),
      Array.from({ length: 50 }, (_, index) => index + 2),
    );
    client.close();
  });
});

test("one signal may be shared by many calls, without a warning", async () => {
  const warnings: Error[] = [];
  const note = (warning: Error) => warnings.push(warning);
  process.on("warning", note);
  const client = cluster.client();
  const controller = new AbortController();
  const { signal } = controller;
  await Promise.all(Array.from({ length: 50 }, () => client.get("first", { signal })));
  const watches = Array.from({ length: 50 }, () => client.watch({ signal }));
  await Promise.all(watches.map((watch) => watch.next()));
  const fromRevision = (await client.list()).revision;
  const waiting = Array.from({ length: 50 }, () =>
    client.watch({ signal, fromRevision, name: "none" }).next(),
  );
  controller.abort(ENOUGH);
  for (const one of await soon("a watch", Promise.allSettled(waiting))) {
    assert.ok(one.status === "rejected" && one.reason === ENOUGH);
  }
  client.close();
  await sleep(10);
  process.off("warning", note);
  assert.deepEqual(warnings, []);
});

test("time limits longer than Node's timers do not end at once", async () => {
  for (const timeoutMs of [2 ** 31, 1e15, Number.POSITIVE_INFINITY]) {
    const client = cluster.client({ timeoutMs });
    const handle = await client.run(["sleep", "1"]);
    assert.equal((await handle.wait({ timeoutMs })).status?.succeeded, 1);
    assert.ok((await client.logs({ job: handle.name }).read()).length === 0);
    client.close();
  }
});

test("more waits than fit on a connection do not keep calls from being sent", async () => {
  const client = cluster.client({ timeoutMs: PATIENCE_MS });
  const namespace = `waits-${process.pid}`;
  const handle = await client.run(["true"], { suspend: true, namespace });
  const waiting = Promise.allSettled(
    Array.from({ length: N_WAITS }, () => handle.wait({ timeoutMs: 4 * PATIENCE_MS })),
  );
  // Until all have been sent, if they are.
  await sleep(3_000);
  assert.equal((await client.list({ namespace })).items.length, 1);
  await handle.delete();
  for (const one of await waiting) {
    assert.ok(one.status === "rejected" && one.reason instanceof JobDeletedError);
  }
  client.close();
});

function frame(kind: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(kind, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

const SETTINGS = frame(4, 0, 0, Buffer.alloc(0));
const REFUSED = Buffer.from([0, 0, 0, 7]);
const CONNECTION_BEHAVIOURS: Record<string, (socket: Socket) => void> = {
  "says goodbye with its greeting": (socket) =>
    socket.write(Buffer.concat([SETTINGS, frame(7, 0, 0, Buffer.alloc(8))])),
  "refuses each stream": (socket) => {
    socket.write(Buffer.concat([SETTINGS, frame(4, 1, 0, Buffer.alloc(0))]));
    const refuse = () => {
      for (let stream = 1; stream < 40; stream += 2) socket.write(frame(3, 0, stream, REFUSED));
    };
    socket.once("data", () => setTimeout(refuse, 50));
  },
};

for (const [what, behave] of Object.entries(CONNECTION_BEHAVIOURS)) {
  test(`a server that ${what}`, async () => {
    await withRawServer(behave, async (address) => {
      for (const [name, call] of Object.entries(CALLS)) {
        const client = new Client(address, { timeoutMs: 1_500 });
        const error = await soon(
          name,
          call(client).then(
            () => undefined,
            (one: unknown) => one,
          ),
        );
        client.close();
        const isKnown = name in WRITES && error instanceof OutcomeUnknownError;
        assert.ok(isKnown || error instanceof UnreachableError, `${name}: ${error}`);
      }
    });
  });
}

test("words of any script arrive or are refused", async () => {
  const client = cluster.client();
  for (const word of ["日本語 🦀 e\u0301 \u202e", "\u0000", "\ud800"]) {
    const calls: (() => Promise<unknown>)[] = [
      () => client.get(word),
      () => client.run(["true"], { name: word }),
      () => client.run(["true"], { labels: { [word]: "x" } }),
      () => client.list({ labelSelector: word }),
    ];
    for (const call of calls) await assert.rejects(async () => call(), StintError, JSON.stringify(word));
  }
  const word = "日本語 🦀 e\u0301 \u202e";
  const handle = await client.run(["printf", "%s", word], { annotations: { note: word } });
  await handle.wait({ timeoutMs: PATIENCE_MS });
  assert.equal((await handle.get()).metadata?.annotations.note, word);
  const lines: string[] = [];
  for await (const line of handle.logs().lines()) lines.push(line);
  assert.deepEqual(lines, [word]);
  client.close();
});

test("a program that closes no client ends, once nothing of it waits", async () => {
  const index = fileURLToPath(new URL("../src/index.js", import.meta.url));
  const program = `
    import { Client } from ${JSON.stringify(index)};
    const client = new Client(process.argv[1], { timeoutMs: 60_000 });
    await client.list();
    for await (const event of client.watch()) break;
    console.log("end");
  `;
  const given = ["--input-type=module", "--eval", program, cluster.addressList];
  const { stdout } = await run(process.execPath, given, { timeout: PATIENCE_MS });
  assert.equal(stdout, "end\n");
});
