/**
 * How a cluster is reached.
 *
 * Owns: addresses and tokens, as given or from the surroundings. Does not own: connections.
 */

import { readFileSync } from "node:fs";
import { Metadata } from "@grpc/grpc-js";
import * as errors from "./errors.js";
import * as limits from "./limits.js";
import { isAddress } from "./retry.js";

/** How a cluster is reached. */
export interface ClientOptions {
  /** The cluster's bearer token; without it what the file of `STINT_TOKEN_FILE` holds, if there is one. */
  readonly token?: string;
  /** How long a call may take with all its attempts. Watches and logs are not bounded. */
  readonly timeoutMs?: number;
  /** Namespace of calls that name none. */
  readonly namespace?: string;
}

const DEFAULT_ADDRESS = "127.0.0.1:7440";

/** Checks addresses; without any they come from `STINT_SERVER`. Throws `AddressError`. */
export function readAddresses(given: string | readonly string[] | undefined): string[] {
  const named = given ?? (process.env.STINT_SERVER || DEFAULT_ADDRESS);
  const parts = (text: string) => text.split(",").map((one) => one.trim());
  const addresses = typeof named === "string" ? parts(named).filter((one) => one !== "") : named;
  if (addresses.length === 0 || addresses.length > limits.ADDRESSES_MAX) {
    throw new errors.AddressError(addresses.join(","));
  }
  return addresses.map((address) => {
    if (!isAddress(address)) throw new errors.AddressError(address);
    return address.replace(/^http:\/\//, "");
  });
}

/** Makes what every call carries; a token that is not given comes from `STINT_TOKEN_FILE`. Throws `TokenError`. */
export function readMetadata(given: string | undefined): Metadata {
  const metadata = new Metadata();
  const file = process.env.STINT_TOKEN_FILE;
  if (given === undefined && !file) return metadata;
  metadata.set("authorization", `Bearer ${checkedToken(given ?? readToken(file as string))}`);
  return metadata;
}

function readToken(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new errors.TokenError(`the file of STINT_TOKEN_FILE can't be read (${(error as Error).message})`);
  }
}

function checkedToken(given: string): string {
  const token = given.trim();
  if (token === "") throw new errors.TokenError("it is empty");
  if (token.length > limits.TOKEN_BYTES_MAX) {
    throw new errors.TokenError(
      `it has ${token.length} characters, at most ${limits.TOKEN_BYTES_MAX} are taken`,
    );
  }
  const position = token.search(/[^!-~]/);
  if (position >= 0) throw new errors.TokenError(`character ${position} is not a visible one of ASCII`);
  return token;
}
