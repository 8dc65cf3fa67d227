/**
 * A cluster of real servers and one agent on loopback.
 *
 * Owns: folders, ports and processes of one cluster. Does not own: assertions about features.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, StintError } from "../../src/index.js";

/** How long a test waits for a state which comes within a second or two on an idle machine. */
export const PATIENCE_MS = 90_000;

/** Waits until something holds. */
export async function eventually(
  what: string,
  check: () => boolean | Promise<boolean>,
  patienceMs = PATIENCE_MS,
): Promise<void> {
  const until = Date.now() + patienceMs;
  while (!(await check())) {
    if (Date.now() > until) throw new Error(`not within ${patienceMs} ms: ${what}`);
    await sleep(100);
  }
}

/** Ports that nobody listens on now. */
export async function freePorts(count: number): Promise<number[]> {
  const listeners = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const listener of listeners) {
    listener.listen(0, "127.0.0.1");
    await once(listener, "listening");
    const address = listener.address();
    if (address === null || typeof address === "string") throw new Error("a listener without a port");
    ports.push(address.port);
  }
  for (const listener of listeners) listener.close();
  return ports;
}

function binary(name: string): string {
  const folder = process.env.STINT_BIN_DIR;
  if (!folder)
    throw new Error("STINT_BIN_DIR must name the folder of stint and stint-agent, such as target/release");
  return join(folder, name);
}

/** Servers and one agent; `close` ends them and removes their data. */
export class Cluster {
  /** Client address by server name. */
  readonly addresses = new Map<string, string>();
  readonly #peers = new Map<string, string>();
  readonly #processes = new Map<string, ChildProcess>();
  readonly #clients: Client[] = [];
  #tokenArguments: string[] = [];

  private constructor(
    readonly folder: string,
    /** Where Pods may write. */
    readonly shared: string,
  ) {}

  static async start(nServers: number, token?: string): Promise<Cluster> {
    const folder = await mkdtemp(join(tmpdir(), "stint-sdk-"));
    // Pods are users of their own; what they share must be reachable.
    await chmod(folder, 0o755);
    const shared = join(folder, "shared");
    await mkdir(shared);
    await chmod(shared, 0o777);
    const cluster = new Cluster(folder, shared);
    const ports = await freePorts(2 * nServers);
    for (let number = 1; number <= nServers; number += 1) {
      cluster.addresses.set(`s${number}`, `127.0.0.1:${ports[number - 1]}`);
      cluster.#peers.set(`s${number}`, `127.0.0.1:${ports[nServers + number - 1]}`);
    }
    if (token !== undefined) {
      const file = join(folder, "token");
      await writeFile(file, token);
      cluster.#tokenArguments = ["--token-file", file];
    }
    try {
      for (const name of cluster.addresses.keys()) await cluster.startServer(name);
      await cluster.#startAgent();
      const client = cluster.client(token === undefined ? {} : { token });
      await eventually("a leader", async () => (await cluster.leader(client)) !== undefined);
      const first = await client.run(["true"], { name: "first" });
      await first.wait({ timeoutMs: PATIENCE_MS });
      return cluster;
    } catch (error) {
      await cluster.close();
      throw error;
    }
  }

  /** A client of all servers, which is closed with the cluster. */
  client(options: ConstructorParameters<typeof Client>[1] = {}): Client {
    const client = new Client([...this.addresses.values()], { timeoutMs: 60_000, ...options });
    this.#clients.push(client);
    return client;
  }

  get addressList(): string {
    return [...this.addresses.values()].join(",");
  }

  /** Starts a server, for the first time or again. */
  async startServer(name: string): Promise<void> {
    const peers = [...this.#peers].map(([one, address]) => `${one}=${address}`).join(",");
    await this.#spawn(name, binary("stint"), [
      ...["server", "--name", name, "--data-dir", join(this.folder, name), "--node-lease", "20s"],
      ...["--listen", this.addresses.get(name) ?? "", "--peer-listen", this.#peers.get(name) ?? ""],
      ...["--initial-cluster", peers, ...this.#tokenArguments],
    ]);
  }

  /** Kills a server with SIGKILL and waits until it is gone. */
  async kill(name: string): Promise<void> {
    const server = this.#processes.get(name);
    this.#processes.delete(name);
    if (server === undefined) throw new Error(`${name} does not run`);
    server.kill("SIGKILL");
    await gone(server);
  }

  /** Sends a server SIGSTOP, after which it keeps its connections and answers nothing, or SIGCONT. */
  signal(name: string, signal: "SIGSTOP" | "SIGCONT"): void {
    this.#processes.get(name)?.kill(signal);
  }

  /** Name of the leader, if there is one that runs. */
  async leader(client: Client): Promise<string | undefined> {
    try {
      const { leader } = await client.status();
      return leader !== undefined && this.#processes.has(leader) ? leader : undefined;
    } catch (error) {
      if (error instanceof StintError) return undefined;
      throw error;
    }
  }

  /** Kills the leader, as soon as there is one, and returns its name. */
  async killLeader(client: Client): Promise<string> {
    let leader: string | undefined;
    await eventually("a leader", async () => {
      leader = await this.leader(client);
      return leader !== undefined;
    });
    if (leader === undefined) throw new Error("there is no leader");
    await this.kill(leader);
    return leader;
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.close();
    // The agent first: it ends its Pods, and tells the servers.
    for (const name of [...this.#processes.keys()].sort((a, b) => Number(b === "w1") - Number(a === "w1"))) {
      const child = this.#processes.get(name);
      if (child === undefined) continue;
      child.kill("SIGCONT");
      child.kill("SIGTERM");
      const giveUp = setTimeout(() => child.kill("SIGKILL"), name === "w1" ? 20_000 : 5_000);
      await gone(child);
      clearTimeout(giveUp);
    }
    await rm(this.folder, { recursive: true, force: true });
  }

  async #startAgent(): Promise<void> {
    await this.#spawn("w1", binary("stint-agent"), [
      ...["--name", "w1", "--server", this.addressList, "--data-dir", join(this.folder, "w1")],
      ...["--cpu", "64", "--memory", "64Gi", "--allow", `writable=${this.shared}`],
      // The disk of whoever runs the tests may be nearly full.
      ...["--min-free-disk", "0", "--min-free-memory", "0"],
      ...["--stop-pods-on-exit", ...this.#tokenArguments],
    ]);
  }

  async #spawn(name: string, program: string, words: string[]): Promise<void> {
    const log = await open(join(this.folder, `${name}.log`), "a");
    const child = spawn(program, words, { stdio: ["ignore", log.fd, log.fd], cwd: this.folder });
    await once(child, "spawn");
    await log.close();
    this.#processes.set(name, child);
  }
}

async function gone(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
}
