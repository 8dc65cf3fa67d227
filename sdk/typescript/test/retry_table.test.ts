/** Decision 10, the retry table, without servers: wire examples and a clock of the test's own. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { ErrorInfoSchema, StatusSchema } from "../src/gen/google/rpc/status_details_pb.js";
import { OutcomeUnknownError, UnavailableError, UnreachableError } from "../src/index.js";
import {
  Attempts,
  type Effect,
  meaningOf,
  noAnswer,
  Servers,
  type Status,
  StreamAttempts,
} from "../src/retry.js";

interface Example {
  readonly name: string;
  readonly code: string;
  readonly message: string;
  readonly details: string | null;
  readonly meaning: {
    readonly kind: string;
    readonly reason?: string | null;
    readonly pause_ms?: number;
    readonly leader?: string;
    readonly fields?: string[];
  };
}

const EXAMPLES = JSON.parse(
  readFileSync(new URL("../../../wire/statuses.json", import.meta.url), "utf8"),
) as Example[];

for (const example of EXAMPLES) {
  test(`what a wire example means: ${example.name}`, () => {
    const details = example.details === null ? undefined : Buffer.from(example.details, "base64");
    const found = meaningOf({ code: example.code, message: example.message, details });
    const expected = example.meaning;
    assert.equal(found.kind, expected.kind);
    if (found.kind === "not done") {
      assert.ok(found.isAnswered);
      assert.equal(found.pauseMs, expected.pause_ms);
      assert.equal(found.leader, expected.leader);
    } else if (found.kind === "final") {
      assert.equal(found.error.reason ?? null, expected.reason);
      assert.equal(found.error.code, example.code);
      assert.deepEqual(
        found.error.fieldViolations.map((one) => one.field),
        expected.fields ?? [],
      );
    }
  });
}

const LOST: Status = { code: "UNAVAILABLE", message: "connection reset" };
const UNREACHED: Status = { code: "UNAVAILABLE", message: "no connection", isUnsent: true };

function said(code: string, reason: string, metadata: Record<string, string> = {}): Status {
  const info = create(ErrorInfoSchema, { reason, domain: "stint.dev", metadata });
  const status = create(StatusSchema, { details: [anyPack(ErrorInfoSchema, info)] });
  return { code, message: "said", details: toBinary(StatusSchema, status) };
}

const NO_LEADER = said("UNAVAILABLE", "NoLeader");

function begin(effect: Effect, addresses = ["a:1", "b:1", "c:1"], timeoutMs = 15_000, jitter = 1) {
  const clock = { ms: 1000 };
  const servers = new Servers(addresses);
  const surroundings = { now: () => clock.ms, jitter: () => jitter };
  return { attempts: new Attempts(servers, effect, timeoutMs, surroundings), clock, servers };
}

test("a read and a repeatable write go on elsewhere after a broken connection", () => {
  for (const effect of ["read", "repeatable write"] as const) {
    const { attempts } = begin(effect);
    const asked = Array.from({ length: 4 }, () => {
      const { address } = attempts.next();
      attempts.failed(LOST);
      return address;
    });
    assert.deepEqual(asked, ["a:1", "b:1", "c:1", "a:1"]);
  }
});

test("another write of unknown outcome is never sent again", () => {
  const { attempts } = begin("write");
  attempts.next();
  assert.throws(() => attempts.failed(LOST), OutcomeUnknownError);
});

test("any write that was not carried out is sent again", () => {
  for (const effect of ["read", "repeatable write", "write"] as const) {
    for (const ended of [NO_LEADER, UNREACHED]) {
      const { attempts } = begin(effect);
      attempts.next();
      attempts.failed(ended);
      assert.equal(attempts.next().address, "b:1");
    }
  }
});

test("pauses come after each round and double up to a second; jitter takes up to a half of them", () => {
  for (const [jitter, factor] of [
    [1, 1],
    [0, 0.5],
  ] as const) {
    const { attempts } = begin("read", ["a:1", "b:1", "c:1"], 1e9, jitter);
    const pauses = Array.from({ length: 24 }, () => {
      attempts.next();
      return attempts.failed(LOST);
    });
    const expected = [50, 100, 200, 400, 800, 1000, 1000, 1000].flatMap((pause) => [0, 0, pause * factor]);
    assert.deepEqual(pauses, expected);
  }
});

test("a leader hint is followed once and at once", () => {
  const { attempts, servers } = begin("write");
  attempts.next();
  assert.equal(attempts.failed(said("UNAVAILABLE", "NotLeader", { leaderAddress: "c:1" })), 0);
  assert.equal(attempts.next().address, "c:1");
  assert.equal(servers.first, 2, "the next call asks there first");
  // Two servers that name each other must not make the client run between them.
  attempts.failed(said("UNAVAILABLE", "NotLeader", { leaderAddress: "new:1" }));
  assert.equal(attempts.next().address, "a:1", "the next of the list");
});

test("a leader that does not answer is asked once each time that it is named", () => {
  const { attempts } = begin("read", ["a:1", "b:1", "c:1"], 1e9);
  // b is stopped, and the others do not know yet.
  const namesB = said("UNAVAILABLE", "NotLeader", { leaderAddress: "b:1" });
  const asked = Array.from({ length: 8 }, () => {
    const { address } = attempts.next();
    attempts.failed(address === "b:1" ? noAnswer(6_000) : namesB);
    return address;
  });
  assert.deepEqual(asked, ["a:1", "b:1", "c:1", "b:1", "c:1", "b:1", "c:1", "b:1"]);
});

test("a leader that is not among the addresses is asked too, unless it is no address; they are bounded", () => {
  for (const [named, asked] of [
    ["new:7440", "new:7440"],
    ["http://new:7440", "new:7440"],
    ["no address", "b:1"],
    ["", "b:1"],
    ["h:0", "b:1"],
  ] as const) {
    const { attempts } = begin("read");
    attempts.next();
    attempts.failed(said("UNAVAILABLE", "NotLeader", { leaderAddress: named }));
    assert.equal(attempts.next().address, asked);
  }
  const servers = new Servers(["a:1"]);
  for (let number = 0; number < 64; number += 1) assert.ok(servers.hinted(`h${number}:1`));
  assert.equal(servers.hinted("one-more:1"), undefined);
  assert.equal(servers.hinted("h3:1"), "h3:1");
});

test("one attempt does not use up the time of the other servers", () => {
  assert.equal(begin("read").attempts.next().patienceMs, 6_000);
  assert.equal(begin("repeatable write").attempts.next().patienceMs, 6_000);
  assert.equal(begin("write").attempts.next().patienceMs, 15_000);
  assert.equal(begin("read", ["a:1"]).attempts.next().patienceMs, 15_000);
});

test("what is said when the time is over", () => {
  const cases: [Effect, Status[], new (...given: never[]) => Error][] = [
    ["read", [LOST], UnreachableError],
    ["read", [UNREACHED], UnreachableError],
    ["read", [LOST, NO_LEADER], UnavailableError],
    // The last one was cut short by the limit: what a server said before is what is known.
    ["read", [NO_LEADER, LOST], UnavailableError],
    ["read", [NO_LEADER, UNREACHED], UnreachableError],
    ["repeatable write", [UNREACHED], UnreachableError],
    ["repeatable write", [NO_LEADER], UnavailableError],
    ["repeatable write", [LOST, NO_LEADER], OutcomeUnknownError],
    ["repeatable write", [LOST, UNREACHED], OutcomeUnknownError],
    ["write", [UNREACHED], UnreachableError],
  ];
  for (const [effect, ends, expected] of cases) {
    const { attempts, clock } = begin(effect);
    for (const [index, end] of ends.entries()) {
      attempts.next();
      if (index < ends.length - 1) {
        attempts.failed(end);
      } else {
        clock.ms += 15_000;
        assert.throws(() => attempts.failed(end), expected);
      }
    }
  }
});

test("an unknown outcome is told with its cause alone", () => {
  const message = "the outcome is unknown (no answer within 10s): look at the object before trying again";
  const { attempts } = begin("write");
  attempts.next();
  assert.throws(
    () => attempts.failed({ code: "DEADLINE_EXCEEDED", message }),
    (error) =>
      error instanceof OutcomeUnknownError && error.message === message && !error.problem.includes(":"),
  );
});

test("a stream that worked has the whole time again, one that breaks each time is given up", () => {
  const clock = { ms: 0 };
  const surroundings = { now: () => clock.ms, jitter: () => 1 };
  const stream = new StreamAttempts(new Servers(["a:1"]), 15_000, surroundings);
  stream.next();
  stream.opened();
  clock.ms += 3_600_000;
  stream.ended(LOST);
  clock.ms += 14_000;
  stream.next();
  stream.ended(LOST);
  clock.ms += 2_000;
  stream.next();
  assert.throws(() => stream.ended(LOST), UnreachableError);
  let nOpened = 0;
  assert.throws(() => {
    for (;;) {
      stream.next();
      stream.opened();
      nOpened += 1;
      clock.ms += 100 + stream.ended(NO_LEADER);
    }
  }, UnavailableError);
  assert.ok(nOpened > 10 && nOpened < 60, `${nOpened}`);
});
