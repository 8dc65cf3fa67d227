/**
 * Measures the TypeScript client on a cluster of three servers and one agent on this machine; prints a table.
 *
 * Submits per second are of suspended Jobs, so that what Pods do is not in them. Submit → done is of Jobs of one Pod that
 * runs `true`, one after another.
 */

import { parseArgs } from "node:util";
import { makeJob } from "../src/index.js";
import { Cluster } from "../test/support/cluster.js";

const WARM_UP = 20;

const { values } = parseArgs({
  options: { submits: { type: "string", default: "1000" }, runs: { type: "string", default: "100" } },
});
const nSubmits = Number(values.submits);
const nRuns = Number(values.runs);

const cluster = await Cluster.start(3);
try {
  const client = cluster.client();
  const suspended = makeJob(["true"], { suspend: true, namespace: "figures" });
  const submits = async (nInFlight: number): Promise<number> => {
    let left = nSubmits;
    const submitter = async () => {
      while (left-- > 0) await client.submit(suspended);
    };
    const begun = performance.now();
    await Promise.all(Array.from({ length: nInFlight }, submitter));
    return nSubmits / ((performance.now() - begun) / 1000);
  };
  const submitToDone = async (): Promise<number> => {
    const begun = performance.now();
    await (await client.run(["true"])).wait();
    return performance.now() - begun;
  };
  for (let times = 0; times < WARM_UP; times += 1) {
    await client.submit(suspended);
    await submitToDone();
  }
  const rows: [string, string][] = [];
  for (const nInFlight of [1, 16]) {
    rows.push([`${nInFlight} in flight`, `${(await submits(nInFlight)).toFixed(0)} submits/s`]);
  }
  const times: number[] = [];
  for (let run = 0; run < nRuns; run += 1) times.push(await submitToDone());
  times.sort((a, b) => a - b);
  const quantile = (share: number) =>
    `${(times[Math.floor(times.length * share)] ?? Number.NaN).toFixed(1)} ms`;
  rows.push(["submit → done, p50", quantile(0.5)], ["submit → done, p90", quantile(0.9)]);
  for (const [what, figure] of rows) console.log(`${what.padEnd(24)} ${figure.padStart(16)}`);
} finally {
  await cluster.close();
}
