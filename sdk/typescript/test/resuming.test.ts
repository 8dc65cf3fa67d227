/** How watches and logs go on, without servers: no gap, no duplicate, and what was missed is told. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { WatchEventType } from "../src/gen/stint/v1/meta_pb.js";
import {
  LogCutReason,
  LogStream,
  type PodLogsChunk,
  PodLogsChunkSchema,
} from "../src/gen/stint/v1/pods_pb.js";
import { AnswerError, ArgumentError, ExpiredError, makeJob } from "../src/index.js";
import { Lines, LogState, logsRequest } from "../src/logs.js";
import { WatchState } from "../src/watching.js";

const EXPIRED = new ExpiredError("the revision is no longer kept", {
  code: "OUT_OF_RANGE",
  reason: "Expired",
});

interface Step {
  readonly open?: number;
  readonly break?: true;
  readonly expired?: true;
  readonly message?: [keyof typeof WatchEventType | number, number, string | null];
  readonly gives?: [string, number, string | string[]][];
}

const EXAMPLES = JSON.parse(readFileSync(new URL("../../../wire/watches.json", import.meta.url), "utf8")) as {
  readonly name: string;
  readonly from_revision: number | null;
  readonly servers?: number;
  readonly steps: Step[];
}[];

for (const example of EXAMPLES) {
  test(`a watch goes on as the wire examples say: ${example.name}`, () => {
    const from = example.from_revision;
    const state = new WatchState<string>(from === null ? undefined : BigInt(from), example.servers);
    for (const step of example.steps) {
      if (step.open !== undefined) assert.equal(state.opened(), BigInt(step.open));
      else if (step.expired) state.expired(EXPIRED);
      else if (step.message === undefined) assert.ok(step.break, "the next stream is opened");
      else {
        const [type, revision, name] = step.message;
        const number = typeof type === "string" ? WatchEventType[type] : type;
        const given = state
          .take(number, BigInt(revision), name ?? undefined)
          .map((one) => [one.kind, Number(one.revision), one.kind === "relisted" ? one.objects : one.object]);
        assert.deepEqual(given, step.gives);
      }
    }
  });
}

test("relists without success are bounded", () => {
  const state = new WatchState<string>(5n);
  for (let times = 0; times < 3; times += 1) state.expired(EXPIRED);
  assert.throws(() => state.expired(EXPIRED), ExpiredError);
});

test("nonsense of a server is an error and not a crash", () => {
  const state = new WatchState<string>(5n);
  assert.throws(() => state.take(WatchEventType.ADDED, 6n, undefined), AnswerError);
  assert.throws(() => new WatchState<string>(-1n), ArgumentError);
});

function chunk(init: MessageInitShape<typeof PodLogsChunkSchema>): PodLogsChunk {
  return create(PodLogsChunkSchema, init);
}

const SOURCE = { podName: "j-0", podUid: "u", container: "main", restartCount: 2, nodeName: "w1" };
const bytes = (text: string) => new TextEncoder().encode(text);

test("a log goes on in the same run from the same place", () => {
  const state = new LogState(logsRequest({ job: "j" }, "default", { tailLines: 3, follow: true }));
  const piece = state.take(
    chunk({ source: SOURCE, data: bytes("one\n"), nextOffset: 100n, stream: LogStream.STDERR }),
  );
  assert.deepEqual(piece, { data: bytes("one\n"), stream: "stderr", cut: undefined });
  const again = state.opened();
  assert.deepEqual(again.target, { case: "podName", value: "j-0" });
  assert.equal(again.podUid, "u");
  assert.equal(again.restartCount, 2);
  assert.equal(again.offset, 100n);
  assert.equal(again.tailLines, undefined, "it would leave out what comes after the place");
});

test("bytes after the last named place are given once, and a tail without a place can't go on", () => {
  const state = new LogState(logsRequest({ pod: "p" }, "default", {}));
  state.take(chunk({ source: SOURCE, data: bytes("ab"), nextOffset: 10n }));
  assert.deepEqual(state.take(chunk({ data: bytes("cd"), nextOffset: 10n }))?.data, bytes("cd"));
  state.opened();
  assert.deepEqual(state.take(chunk({ data: bytes("cde"), nextOffset: 10n }))?.data, bytes("e"));
  const tail = new LogState(logsRequest({ pod: "p" }, "default", { since: 3 }));
  tail.opened();
  tail.take(chunk({ source: SOURCE, data: bytes("ab") }));
  assert.throws(() => tail.opened(), /read it again/);
});

test("cuts are told", () => {
  const state = new LogState(logsRequest({ pod: "p" }, "default", {}));
  const piece = state.take(chunk({ source: SOURCE, cut: { reason: LogCutReason.LOST, nodeName: "w1" } }));
  assert.equal(piece?.cut?.reason, LogCutReason.LOST);
  assert.equal(piece?.data.length, 0);
});

test("lines are put together from pieces, and characters from bytes", () => {
  const lines = new Lines();
  const piece = (data: Uint8Array) => ({ data, stream: "both" as const, cut: undefined });
  const word = bytes("zwölf\n");
  assert.deepEqual(lines.take(piece(bytes("one\ntw"))), ["one"]);
  assert.deepEqual(lines.take(piece(bytes("o\n\n"))), ["two", ""]);
  assert.deepEqual(lines.take(piece(word.subarray(0, 3))), []);
  assert.deepEqual(lines.take(piece(word.subarray(3))), ["zwölf"]);
  assert.deepEqual(lines.take(piece(bytes("rest"))), []);
  assert.deepEqual(lines.rest(), ["rest"]);
  assert.deepEqual(lines.rest(), []);
});

test("a log has advanced by new bytes and by a new place", () => {
  const state = new LogState(logsRequest({ pod: "p" }, "default", {}));
  const advances = (init: MessageInitShape<typeof PodLogsChunkSchema>) => {
    state.take(chunk(init));
    return state.hasAdvanced;
  };
  assert.ok(!advances({ source: SOURCE }));
  assert.ok(advances({ data: bytes("ab") }));
  assert.ok(advances({ nextOffset: 10n }));
  assert.ok(!advances({ nextOffset: 10n }));
  assert.ok(!advances({ cut: {} }));
  assert.ok(advances({ data: bytes("cd"), nextOffset: 10n }));
  state.opened();
  assert.ok(!advances({ data: bytes("c") }), "it was given before");
  assert.ok(advances({ data: bytes("de") }));
});

test("a line without end is not kept without end", () => {
  const lines = new Lines();
  const data = bytes("x".repeat(100_000));
  const found = Array.from({ length: 40 }, () => lines.take({ data })).flat();
  assert.deepEqual(
    found.map((line) => line.length),
    [1_100_000, 1_100_000, 1_100_000],
  );
  assert.deepEqual(lines.take({ data: bytes("\nnext\n") }), ["x".repeat(700_000), "next"]);
  assert.deepEqual(lines.take({ data: bytes("\ufeffmark\n") }), ["\ufeffmark"]);
});

test("a Job is made of words", () => {
  assert.throws(() => makeJob("sleep 1" as unknown as string[]), ArgumentError);
  assert.throws(() => makeJob([]), ArgumentError);
  const job = makeJob(["/usr/bin/My Program.sh", "x"], {
    backoffMs: 1500,
    cpu: "500m",
    env: { A: "b" },
    indexed: true,
  });
  assert.equal(job.metadata?.generateName, "my-program-sh-");
  assert.equal(job.spec?.backoffBase?.seconds, 1n);
  assert.equal(job.spec?.backoffBase?.nanos, 500_000_000);
  const base = makeJob(["x"], { backoffMs: 1_999.999_999_9 }).spec?.backoffBase;
  assert.deepEqual([base?.seconds, base?.nanos], [2n, 0]);
  assert.equal(makeJob(["…"]).metadata?.generateName, "job-");
  const madeFrom = (options: { image?: string; runtime?: string }) => {
    const pod = makeJob(["x"], options).spec?.template?.spec;
    return [pod?.containers[0]?.image, pod?.runtimeClassName];
  };
  assert.deepEqual(madeFrom({}), ["", "process"]);
  assert.deepEqual(madeFrom({ image: "" }), ["", "process"]);
  assert.deepEqual(madeFrom({ runtime: "oci" }), ["", "oci"]);
  assert.deepEqual(madeFrom({ image: "i" }), ["i", undefined]);
  assert.deepEqual(madeFrom({ image: "i", runtime: "cri" }), ["i", "cri"]);
  for (const tailLines of [-1, 0.5, Number.NaN]) {
    assert.throws(() => logsRequest({ pod: "p" }, "default", { tailLines }), ArgumentError);
  }
});
