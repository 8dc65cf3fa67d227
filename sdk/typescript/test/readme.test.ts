/** The examples of README.md compile, and do what they say. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Cluster } from "./support/cluster.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const ADDRESS = '"127.0.0.1:7440"';
const run = promisify(execFile);

let cluster: Cluster;

before(async () => {
  cluster = await Cluster.start(1);
});

after(() => cluster.close());

test("each example compiles and runs", async () => {
  const readme = await readFile(`${ROOT}README.md`, "utf8");
  const examples = [...readme.matchAll(/```ts\n(.*?)```/gs)].map((found) => found[1] ?? "");
  assert.ok(examples.length >= 3);
  const folder = await mkdtemp(`${ROOT}build/readme-`);
  try {
    const files: string[] = [];
    for (const [number, example] of examples.entries()) {
      assert.ok(example.includes(ADDRESS));
      const text = example
        .replaceAll(ADDRESS, JSON.stringify(cluster.addressList))
        .replaceAll('from "stint"', `from "${ROOT}build/src/index.js"`);
      files.push(`${folder}/example_${number}.mts`);
      await writeFile(files[number] ?? "", text);
    }
    const options = [
      "--strict",
      "--skipLibCheck",
      "--target",
      "es2022",
      "--module",
      "nodenext",
      "--types",
      "node",
    ];
    await run(process.execPath, [`${ROOT}node_modules/typescript/bin/tsc`, ...options, ...files], {
      cwd: ROOT,
    });
    const outputs: string[] = [];
    for (const file of files) {
      const { stdout } = await run(process.execPath, [file.replace(/\.mts$/, ".mjs")], { timeout: 180_000 });
      outputs.push(stdout);
    }
    assert.match(outputs[0] ?? "", /^10 Pods succeeded$/m);
    assert.match(outputs[0] ?? "", /^9 81$/m);
    assert.match(outputs[0] ?? "", /^BackoffLimitExceeded$/m);
    assert.match(outputs[1] ?? "", /^added sleep-/m);
  } finally {
    await rm(folder, { recursive: true });
  }
});
