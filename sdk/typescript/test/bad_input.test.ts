/** Bad input, and servers that are down, wrong or hostile: each gives an error of its own type, and nothing hangs. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Metadata, status } from "@grpc/grpc-js";
import { ClusterStatusSchema } from "../src/gen/stint/v1/cluster_pb.js";
import {
  CreateJobRequestSchema,
  CreateJobResponseSchema,
  CreateOutcome,
  JobWatchEventSchema,
  ListJobsResponseSchema,
  WatchJobsRequestSchema,
} from "../src/gen/stint/v1/jobs_pb.js";
import { WatchEventType } from "../src/gen/stint/v1/meta_pb.js";
import { PodLogsChunkSchema, PodLogsRequestSchema } from "../src/gen/stint/v1/pods_pb.js";
import {
  AddressError,
  AlreadyExistsError,
  AnswerError,
  ArgumentError,
  Client,
  type ClientOptions,
  ExpiredError,
  InvalidError,
  type Job,
  JobSchema,
  LimitExceededError,
  makeJob,
  NotFoundError,
  OutcomeUnknownError,
  RefusedError,
  StintError,
  TokenError,
  UnauthenticatedError,
  UnavailableError,
  UnreachableError,
  type WatchEvent,
} from "../src/index.js";
import { Cluster, freePorts } from "./support/cluster.js";
import {
  failure,
  RAW_BEHAVIOURS,
  type Stream,
  withDetails,
  withGrpcServer,
  withRawServer,
} from "./support/hostile.js";

const SECRET = "a-token-for-tests";
/** By how much a slow machine may miss a time limit. */
const SLACK_MS = 60_000;
/** Of calls that end long before their limit: with the first answer, however slow the machine is. */
const AT_ONCE: ClientOptions = { timeoutMs: 30_000 };
/** Of calls that run into their limit, once there is a connection. */
const CONNECTED: ClientOptions = { timeoutMs: 1_500 };

let cluster: Cluster;
let guarded: Cluster;

before(async () => {
  cluster = await Cluster.start(1);
  guarded = await Cluster.start(1, SECRET);
});

after(async () => {
  await cluster.close();
  await guarded.close();
});

type Call = (client: Client) => unknown;

/** Makes one call; gives the error that it ended with. Fails if it takes much too long. */
async function errorOf(addresses: string, call: Call, options: ClientOptions = {}): Promise<unknown> {
  const timeoutMs = options.timeoutMs ?? 500;
  const begun = Date.now();
  const client = new Client(addresses, { ...options, timeoutMs });
  try {
    const given = await call(client);
    const isStream = typeof given === "object" && given !== null && Symbol.asyncIterator in given;
    if (isStream) for await (const _ of given as AsyncIterable<unknown>);
    return undefined;
  } catch (error) {
    return error;
  } finally {
    client.close();
    assert.ok(Date.now() - begun < timeoutMs + SLACK_MS);
  }
}

const CALLS = {
  read: (client: Client) => client.get("any"),
  create: (client: Client) => client.submit(makeJob(["true"])),
  update: (client: Client) => client.update(makeJob(["true"], { name: "any" })),
  watch: (client: Client) => client.watch(),
  logs: (client: Client) => client.logs({ pod: "any" }, { follow: true }),
};

test("texts that are addresses, and texts that are none, are told apart at once", async () => {
  const file = new URL("../../../wire/addresses.json", import.meta.url);
  const examples: { taken: string[]; refused: string[] } = JSON.parse(await readFile(file, "utf8"));
  const tooMany = Array.from({ length: 65 }, (_, number) => `h${number}:1`).join(",");
  for (const text of [...examples.refused, tooMany]) {
    assert.throws(() => new Client(text), AddressError, JSON.stringify(text));
  }
  for (const text of examples.taken) new Client(text).close();
  for (const list of [[], [""], ["a:1", ""]]) assert.throws(() => new Client(list), AddressError);
});

test("tokens that can't be sent are refused and never shown", () => {
  for (const token of ["", " \n", "two words", "schlüssel", "a\u0000b", "x".repeat(5000)]) {
    assert.throws(
      () => new Client("h:1", { token }),
      (error) => error instanceof TokenError && (token.trim() === "" || !error.message.includes(token)),
    );
  }
  process.env.STINT_TOKEN_FILE = "/no/such/file";
  assert.throws(() => new Client("h:1"), /no\/such\/file/);
  delete process.env.STINT_TOKEN_FILE;
  process.env.STINT_SERVER = "nonsense";
  assert.throws(() => new Client(), /nonsense/);
  delete process.env.STINT_SERVER;
});

test("arguments that make no sense are refused", async () => {
  for (const timeoutMs of [0, -1, Number.NaN]) {
    assert.throws(() => new Client("h:1", { timeoutMs }), ArgumentError);
  }
  const client = new Client("h:1");
  for (const requestId of ["", "x".repeat(129)]) {
    await assert.rejects(client.submit(makeJob(["true"]), { requestId }), ArgumentError);
  }
  for (const timeoutMs of [0, -1, Number.NaN]) {
    await assert.rejects(client.submit(makeJob(["true"]), { timeoutMs }), ArgumentError);
  }
  for (const timeoutMs of [-1, Number.NaN]) {
    await assert.rejects(client.waitAll([], { timeoutMs }), ArgumentError);
  }
  assert.throws(() => client.watch({ fromRevision: -1n }), ArgumentError);
  assert.throws(() => client.logs({ pod: "p" }, { restartCount: 2 ** 40 }), ArgumentError);
  assert.throws(() => client.watch({ labelSelector: "x".repeat(5 << 20) }), InvalidError);
  client.close();
});

for (const [name, call] of Object.entries(CALLS)) {
  test(`a server that is not there: ${name}`, async () => {
    const [port] = await freePorts(1);
    const error = await errorOf(`127.0.0.1:${port}`, call);
    assert.ok(error instanceof UnreachableError, `${error}`);
    assert.ok(error.message.includes(`127.0.0.1:${port}`));
  });

  for (const [what, behave] of Object.entries(RAW_BEHAVIOURS)) {
    test(`a server that ${what}: ${name}`, async () => {
      await withRawServer(behave, async (address) => {
        const error = await errorOf(address, call);
        // Of a write nobody knows how much such a server has understood.
        const isWrite = name === "create" || name === "update";
        const isExpected =
          error instanceof UnreachableError || (isWrite && error instanceof OutcomeUnknownError);
        assert.ok(isExpected, `${error}`);
      });
    });
  }

  test(`a server that takes calls and never answers: ${name}`, async () => {
    const behaviour = { unary: () => undefined, stream: (() => ({ messages: [], end: "never" })) as Stream };
    await withGrpcServer(behaviour, async (address) => {
      const error = await errorOf(address, call, CONNECTED);
      const isWrite = name === "create" || name === "update";
      assert.ok(error instanceof (isWrite ? OutcomeUnknownError : UnreachableError), `${error}`);
      if (name === "create") assert.ok((error as OutcomeUnknownError).requestId);
    });
  });
}

test("a name that nobody knows", async () => {
  const error = await errorOf("no-such-host.invalid:7440", CALLS.create, { timeoutMs: 1000 });
  assert.ok(error instanceof UnreachableError, `${error}`);
});

test("a dead and a silent server do not keep a call from the third", async () => {
  const [port] = await freePorts(1);
  await withRawServer(
    () => undefined,
    (silent) =>
      withGrpcServer({ unary: () => undefined }, async (mute) => {
        const addresses = `127.0.0.1:${port},${silent},${mute},${cluster.addressList}`;
        assert.equal(
          await errorOf(addresses, (client) => client.get("first"), { timeoutMs: 60_000 }),
          undefined,
        );
      }),
  );
});

test("what servers say", async () => {
  const cases: [status, string, new (...given: never[]) => Error][] = [
    [status.UNAVAILABLE, "NoLeader", UnavailableError],
    [status.UNAVAILABLE, "ShuttingDown", UnavailableError],
    [status.RESOURCE_EXHAUSTED, "LimitExceeded", LimitExceededError],
    [status.INTERNAL, "Internal", RefusedError],
    [status.DATA_LOSS, "DataLoss", RefusedError],
    [status.UNIMPLEMENTED, "Unimplemented", RefusedError],
    [status.DEADLINE_EXCEEDED, "OutcomeUnknown", OutcomeUnknownError],
  ];
  for (const [code, reason, expected] of cases) {
    // Where it would be tried again, the pause that is asked for leaves no time for it.
    const pause = code === status.UNAVAILABLE ? { retryAfterMs: 3_600_000 } : {};
    const options = reason === "OutcomeUnknown" ? CONNECTED : { timeoutMs: 5_000 };
    await withGrpcServer({ unary: () => failure(code, reason, "as told", pause) }, async (address) => {
      const error = await errorOf(address, CALLS.create, options);
      assert.ok(error instanceof expected && error.message.includes("as told"), `${reason}: ${error}`);
    });
  }
});

test("a server that always asks for a pause is given up in time", async () => {
  const later = failure(status.UNAVAILABLE, "NoLeader", "later", { retryAfterMs: 100 });
  await withGrpcServer({ unary: () => later }, async (address) => {
    const error = await errorOf(address, CALLS.read, CONNECTED);
    // The last attempt may have had too little time to be answered.
    assert.ok(error instanceof UnavailableError || error instanceof UnreachableError, `${error}`);
  });
});

test("servers that name each other as leader", async () => {
  let nCalls = 0;
  const addresses: string[] = [];
  const unary = () => {
    nCalls += 1;
    const leaderAddress = addresses[nCalls % 2] ?? "";
    const pause = nCalls >= 6 ? { retryAfterMs: 3_600_000 } : {};
    return failure(status.UNAVAILABLE, "NotLeader", "not me", { metadata: { leaderAddress }, ...pause });
  };
  await withGrpcServer({ unary }, (first) =>
    withGrpcServer({ unary }, async (second) => {
      addresses.push(first, second);
      const error = await errorOf(first, CALLS.read, { timeoutMs: 9_000 });
      assert.ok(error instanceof UnavailableError, `${error}`);
    }),
  );
  assert.ok(nCalls >= 6 && nCalls <= 8, "it does not run in circles");
});

test("a generated name that is taken is not the caller's business", async () => {
  const cases: [number, string | undefined, string | undefined, number][] = [
    [2, undefined, undefined, 3],
    [100, undefined, undefined, 8],
    [100, "mine", undefined, 1],
    [100, undefined, "mine", 1],
  ];
  for (const [nTaken, name, requestId, nIds] of cases) {
    const ids: string[] = [];
    const unary = (request: Buffer) => {
      ids.push(fromBinary(CreateJobRequestSchema, request).requestId);
      if (ids.length <= nTaken) return failure(status.ALREADY_EXISTS, "AlreadyExists", "it is there");
      const answer = { outcome: CreateOutcome.CREATED, job: { metadata: { name: "new" } } };
      return Buffer.from(toBinary(CreateJobResponseSchema, create(CreateJobResponseSchema, answer)));
    };
    const job = makeJob(["true"], name === undefined ? {} : { name });
    const submit = (client: Client) => client.submit(job, requestId === undefined ? {} : { requestId });
    await withGrpcServer({ unary }, async (address) => {
      const error = await errorOf(address, submit, AT_ONCE);
      assert.ok(nTaken < nIds ? error === undefined : error instanceof AlreadyExistsError, `${error}`);
    });
    assert.equal(new Set(ids).size, nIds);
    assert.equal(ids.length, nIds);
  }
});

test("details that can't be read are as none", async () => {
  const metadata = withDetails(Buffer.from([255, 255, 255]));
  const unary = () => ({ code: status.NOT_FOUND, details: "nothing here", metadata });
  await withGrpcServer({ unary }, async (address) => {
    const error = await errorOf(address, CALLS.read, AT_ONCE);
    assert.ok(error instanceof NotFoundError && error.reason === undefined, `${error}`);
  });
});

test("answers that are no message, empty, or beyond the limit", async () => {
  for (const answer of [Buffer.alloc(20, 0xff), Buffer.from("\n\u0005abc")]) {
    await withGrpcServer({ unary: () => answer }, async (address) => {
      assert.ok((await errorOf(address, CALLS.read)) instanceof StintError);
      const error = await errorOf(address, CALLS.create, CONNECTED);
      assert.ok(error instanceof OutcomeUnknownError, `${error}`);
    });
  }
  await withGrpcServer({ unary: () => Buffer.alloc(0) }, async (address) => {
    const error = await errorOf(address, CALLS.create, AT_ONCE);
    assert.ok(error instanceof AnswerError, `${error}`);
  });
  await withGrpcServer({ unary: () => Buffer.alloc(5 << 20) }, async (address) => {
    const error = await errorOf(address, CALLS.read, AT_ONCE);
    assert.ok(error instanceof RefusedError && error.code === "RESOURCE_EXHAUSTED", `${error}`);
  });
});

function event(type: WatchEventType, revision: bigint, name?: string): Buffer {
  const job = name === undefined ? {} : { job: { metadata: { name } } };
  return Buffer.from(toBinary(JobWatchEventSchema, create(JobWatchEventSchema, { type, revision, ...job })));
}

const TORN = { code: status.UNAVAILABLE, details: "torn", metadata: new Metadata() };

async function collect(stream: AsyncIterable<WatchEvent<Job>>, seen: WatchEvent<Job>[]): Promise<void> {
  for await (const one of stream) seen.push(one);
}

test("streams that end and break after each message lose and repeat nothing", async () => {
  const last = 40n;
  let nStreams = 0;
  const stream: Stream = (request) => {
    nStreams += 1;
    const { fromRevision } = fromBinary(WatchJobsRequestSchema, request);
    const isTorn = nStreams % 2 === 0;
    if (fromRevision >= last)
      return { messages: [], end: { ...TORN, code: status.NOT_FOUND, details: "the end" } };
    const messages =
      fromRevision === 0n
        ? [
            event(WatchEventType.ADDED, 10n, "a"),
            ...(nStreams > 2 ? [event(WatchEventType.BOOKMARK, 10n)] : []),
          ]
        : // The one before comes again, as a server that is behind might have it.
          [fromRevision, fromRevision + 1n].map((revision) => event(WatchEventType.MODIFIED, revision, "a"));
    return isTorn ? { messages, end: TORN } : { messages };
  };
  const seen: WatchEvent<Job>[] = [];
  await withGrpcServer({ stream }, async (address) => {
    const error = await errorOf(address, (client) => collect(client.watch(), seen), AT_ONCE);
    assert.ok(error instanceof NotFoundError, `${error}`);
  });
  const expected = Array.from({ length: 31 }, (_, index) => BigInt(index + 10));
  assert.deepEqual(
    seen.map((one) => one.revision),
    expected,
  );
});

test("a watch that expires tells what there is; one that always does ends", async () => {
  const tooOld = failure(status.OUT_OF_RANGE, "Expired", "too old");
  const stream: Stream = (request) => {
    const { fromRevision } = fromBinary(WatchJobsRequestSchema, request);
    if (fromRevision === 5n) return { messages: [], end: tooOld };
    const present = [event(WatchEventType.ADDED, 100n, "now"), event(WatchEventType.BOOKMARK, 100n)];
    return { messages: fromRevision === 0n ? present : [], end: { ...TORN, code: status.NOT_FOUND } };
  };
  const seen: WatchEvent<Job>[] = [];
  await withGrpcServer({ stream }, async (address) => {
    await errorOf(address, (client) => collect(client.watch({ fromRevision: 5n }), seen), AT_ONCE);
  });
  const [relisted] = seen;
  assert.equal(seen.length, 1);
  assert.ok(relisted?.kind === "relisted" && relisted.objects[0]?.metadata?.name === "now");
  let nStreams = 0;
  const always: Stream = () => {
    nStreams += 1;
    return { messages: [], end: tooOld };
  };
  await withGrpcServer({ stream: always }, async (address) => {
    const error = await errorOf(address, (client) => client.watch({ fromRevision: 5n }), AT_ONCE);
    assert.ok(error instanceof ExpiredError, `${error}`);
  });
  assert.ok(nStreams < 10);
});

test("a server that breaks in the middle of a log", async () => {
  const text = Buffer.from("0123456789".repeat(10));
  const stream: Stream = (request) => {
    const begin = Number(fromBinary(PodLogsRequestSchema, request).offset ?? 0n);
    const end = Math.min(begin + 7, text.length);
    const source = { podName: "any", podUid: "u", container: "main" };
    const chunks = [{ source }, { data: text.subarray(begin, end), nextOffset: BigInt(end) }];
    const messages = chunks.map((one) =>
      Buffer.from(toBinary(PodLogsChunkSchema, create(PodLogsChunkSchema, one))),
    );
    return end < text.length ? { messages, end: TORN } : { messages };
  };
  await withGrpcServer({ stream }, async (address) => {
    const client = new Client(address, AT_ONCE);
    assert.deepEqual(Buffer.from(await client.logs({ pod: "any" }, { follow: true }).read()), text);
    client.close();
  });
});

test("a log that gets no further is given up", async () => {
  const source = { podName: "any", podUid: "u", container: "main" };
  const cases: [string, MessageInitShape<typeof PodLogsChunkSchema>[]][] = [
    ["nothing", [{}, {}, {}]],
    ["whose it is", [{ source }]],
    ["what was given", [{ data: Buffer.from("again") }]],
    ["a known place", [{ nextOffset: 10n }]],
    ["a cut", [{ cut: { nodeName: "w1" } }]],
  ];
  for (const [what, chunks] of cases) {
    let nStreams = 0;
    const messages = chunks.map((one) =>
      Buffer.from(toBinary(PodLogsChunkSchema, create(PodLogsChunkSchema, one))),
    );
    const stream: Stream = () => {
      nStreams += 1;
      return { messages, end: TORN };
    };
    await withGrpcServer({ stream }, async (address) => {
      const error = await errorOf(address, CALLS.logs, CONNECTED);
      assert.ok(error instanceof UnreachableError, `${what}: ${error}`);
    });
    assert.ok(nStreams > 1 && nStreams < 100, `${what}: ${nStreams}`);
  }
});

test("a watch that gets no further is given up", async () => {
  const cases: [bigint, Buffer][] = [
    [0n, event(WatchEventType.ADDED, 10n, "a")],
    [7n, event(WatchEventType.MODIFIED, 7n, "a")],
    [7n, event(WatchEventType.BOOKMARK, 6n)],
  ];
  for (const [fromRevision, message] of cases) {
    let nStreams = 0;
    const stream: Stream = () => {
      nStreams += 1;
      return { messages: [message], end: TORN };
    };
    const seen: WatchEvent<Job>[] = [];
    await withGrpcServer({ stream }, async (address) => {
      const error = await errorOf(
        address,
        (client) => collect(client.watch({ fromRevision }), seen),
        CONNECTED,
      );
      assert.ok(error instanceof UnreachableError, `${error}`);
    });
    assert.deepEqual(seen, []);
    assert.ok(nStreams > 1 && nStreams < 100, `${nStreams}`);
  }
});

test("a list whose pages lead nowhere ends", async () => {
  const page = create(ListJobsResponseSchema, { metadata: { continueToken: "t" } });
  await withGrpcServer(
    { unary: () => Buffer.from(toBinary(ListJobsResponseSchema, page)) },
    async (address) => {
      const error = await errorOf(address, (client) => client.list(), AT_ONCE);
      assert.ok(error instanceof AnswerError, `${error}`);
    },
  );
});

test("a server without a leader is not the last word on the cluster", async () => {
  const answer = (init: MessageInitShape<typeof ClusterStatusSchema>) => () =>
    Buffer.from(toBinary(ClusterStatusSchema, create(ClusterStatusSchema, init)));
  const [port] = await freePorts(1);
  const dead = `127.0.0.1:${port}`;
  await withGrpcServer({ unary: answer({ term: 4n }) }, (cutOff) =>
    withGrpcServer({ unary: answer({ term: 5n, leader: "s2" }) }, async (other) => {
      for (const addresses of [
        [cutOff, other],
        [other, cutOff],
      ]) {
        const client = new Client(addresses, AT_ONCE);
        assert.equal((await client.status()).leader, "s2");
        client.close();
      }
      const client = new Client([cutOff, dead], CONNECTED);
      const status = await client.status();
      assert.deepEqual([status.term, status.leader], [4n, undefined], "what is known is told");
      client.close();
      assert.ok((await errorOf(dead, (one) => one.status())) instanceof UnreachableError);
    }),
  );
});

test("a wrong token", async () => {
  for (const options of [{}, { token: "wrong" }, { token: `${SECRET}x` }]) {
    for (const call of Object.values(CALLS)) {
      const error = await errorOf(guarded.addressList, call, { ...options, ...AT_ONCE });
      assert.ok(error instanceof UnauthenticatedError && error.reason === "Unauthenticated", `${error}`);
      assert.ok(!error.message.includes(SECRET));
    }
  }
});

function changed(change: (job: Job) => void): Call {
  return (client) => {
    const job = makeJob(["true"]);
    change(job);
    return client.submit(job);
  };
}

test("requests that are not valid say what is wrong", async () => {
  const part = <T>(value: T | undefined): T => value ?? assert.fail("a message lost a part");
  const cases: [string, Call][] = [
    ["spec.template.spec.containers", (client) => client.submit(create(JobSchema))],
    ["metadata.name", changed((job) => Object.assign(part(job.metadata), { name: "Not A Name" }))],
    ["metadata.name", changed((job) => Object.assign(part(job.metadata), { name: "x".repeat(300) }))],
    ["metadata.namespace", changed((job) => Object.assign(part(job.metadata), { namespace: "../up" }))],
    ["spec.completions", changed((job) => Object.assign(part(job.spec), { completions: -1 }))],
    ["spec.parallelism", changed((job) => Object.assign(part(job.spec), { parallelism: -(2 ** 31) }))],
    ["spec.completionMode", changed((job) => Object.assign(part(job.spec), { completionMode: "Sometimes" }))],
    [
      "restartPolicy",
      changed((job) => Object.assign(part(job.spec?.template?.spec), { restartPolicy: "Always" })),
    ],
    ["backoff", (client) => client.run(["true"], { backoffMs: -1000 })],
    ["metadata.labels", (client) => client.run(["true"], { labels: { "-": "no" } })],
    ["resources", (client) => client.run(["true"], { cpu: "many" })],
    ["env", (client) => client.run(["true"], { env: { "A=B": "" } })],
    ["", (client) => client.run(["true"], { env: { HUGE: "x".repeat(1 << 20) } })],
    ["", (client) => client.run(["x".repeat(5 << 20)])],
    ["", (client) => client.get("")],
    ["", (client) => client.list({ labelSelector: "((" })],
    ["", (client) => client.watch({ labelSelector: "((" })],
  ];
  for (const [field, call] of cases) {
    const error = await errorOf(cluster.addressList, call, AT_ONCE);
    assert.ok(error instanceof InvalidError && error.code === "INVALID_ARGUMENT", `${field}: ${error}`);
    const isNamed = field === "" || error.fieldViolations.some((one) => one.field.includes(field));
    assert.ok(isNamed, `${field}: ${JSON.stringify(error.fieldViolations)}`);
  }
});

test("what is not there is said not to be", async () => {
  const calls: Call[] = [
    (client) => client.get("no-such-job"),
    (client) => client.getPod("no-such-pod"),
    (client) => client.delete("no-such-job"),
    (client) => client.job("no-such-job"),
    (client) => client.logs({ pod: "no-such-pod" }),
    (client) => client.logs({ job: "no-such-job" }),
    CALLS.update,
  ];
  for (const call of calls) {
    const error = await errorOf(cluster.addressList, call, AT_ONCE);
    assert.ok(error instanceof NotFoundError && error.reason === "NotFound", `${call}: ${error}`);
  }
});

test("numbers that don't fit into a message are refused before anything is sent", async () => {
  for (const options of [
    { completions: 2 ** 40 },
    { completions: 0.5 },
    { retries: Number.NaN },
    { deadline: 1.5 },
    { grace: -1 },
  ]) {
    const error = await errorOf(cluster.addressList, async (client) => client.run(["true"], options));
    assert.ok(error instanceof ArgumentError, `${error}`);
  }
});
