/**
 * Servers that do what no server should.
 *
 * Owns: what they do to a connection or a call. Does not own: what a client must make of it.
 */

import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type status,
} from "@grpc/grpc-js";
import {
  ErrorInfoSchema,
  RetryInfoSchema,
  StatusSchema,
} from "../../src/gen/google/rpc/status_details_pb.js";

/** Accepts connections and does `behave` to each while `use` runs. */
export async function withRawServer<T>(
  behave: (socket: Socket) => void,
  use: (address: string) => Promise<T>,
): Promise<T> {
  const sockets = new Set<Socket>();
  const listener = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    behave(socket);
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const address = listener.address();
  try {
    return await use(`127.0.0.1:${typeof address === "object" ? address?.port : ""}`);
  } finally {
    for (const socket of sockets) socket.destroy();
    listener.close();
  }
}

/** What a server of another kind does to a connection. */
export const RAW_BEHAVIOURS: Readonly<Record<string, (socket: Socket) => void>> = {
  "says nothing": () => undefined,
  "hangs up": (socket) => socket.destroy(),
  "speaks HTTP/1.1": (socket) => {
    socket.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  },
  "speaks garbage": (socket) => {
    socket.write(Buffer.from(Array.from({ length: 4096 }, (_, index) => index % 256)));
  },
  "closes its half": (socket) => socket.end(),
};

/** How a call ends that does not end well. */
export interface Failure {
  readonly code: status;
  readonly details: string;
  readonly metadata?: Metadata;
}

/** Answers a call with bytes or a failure; undefined: never. */
export type Unary = (request: Buffer) => Buffer | Failure | undefined;
/** Answers a call with messages and then a failure or the end; `never` in their place: nothing follows. */
export type Stream = (request: Buffer) => { readonly messages: Buffer[]; readonly end?: Failure | "never" };

const UNARY_METHODS = [
  "/stint.v1.Jobs/Create",
  "/stint.v1.Jobs/Get",
  "/stint.v1.Jobs/List",
  "/stint.v1.Jobs/Update",
  "/stint.v1.Jobs/Delete",
  "/stint.v1.Cluster/Status",
];
const STREAM_METHODS = ["/stint.v1.Jobs/Watch", "/stint.v1.Pods/Watch", "/stint.v1.Pods/Logs"];

/** Speaks gRPC while `use` runs. */
export async function withGrpcServer<T>(
  behaviour: { readonly unary?: Unary; readonly stream?: Stream },
  use: (address: string) => Promise<T>,
): Promise<T> {
  const server = new Server({ "grpc.max_send_message_length": -1 });
  const asIs = (bytes: Buffer) => bytes;
  const { unary, stream } = behaviour;
  if (unary !== undefined) {
    const handle = (call: ServerUnaryCall<Buffer, Buffer>, done: (e: Failure | null, a?: Buffer) => void) => {
      const answer = unary(call.request);
      if (Buffer.isBuffer(answer)) done(null, answer);
      else if (answer !== undefined) done(answer);
    };
    for (const method of UNARY_METHODS) server.register(method, handle, asIs, asIs, "unary");
  }
  if (stream !== undefined) {
    const handle = (call: ServerWritableStream<Buffer, Buffer>) => {
      const { messages, end } = stream(call.request);
      for (const message of messages) call.write(message);
      if (end === undefined) call.end();
      else if (end !== "never") call.emit("error", end);
    };
    for (const method of STREAM_METHODS) server.register(method, handle, asIs, asIs, "serverStream");
  }
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  try {
    return await use(`127.0.0.1:${port}`);
  } finally {
    server.forceShutdown();
  }
}

/** A failure as stint's servers tell it. */
export function failure(
  code: status,
  reason: string,
  details: string,
  more: { readonly retryAfterMs?: number; readonly metadata?: Record<string, string> } = {},
): Failure {
  const info = create(ErrorInfoSchema, { reason, domain: "stint.dev", metadata: more.metadata ?? {} });
  const packed = [anyPack(ErrorInfoSchema, info)];
  if (more.retryAfterMs !== undefined) {
    const retryDelay = {
      seconds: BigInt(Math.floor(more.retryAfterMs / 1000)),
      nanos: (more.retryAfterMs % 1000) * 1e6,
    };
    packed.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay })));
  }
  const encoded = toBinary(StatusSchema, create(StatusSchema, { code, message: details, details: packed }));
  return { code, details, metadata: withDetails(encoded) };
}

/** Trailing metadata with `grpc-status-details-bin`. */
export function withDetails(encoded: Uint8Array): Metadata {
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(encoded));
  return metadata;
}
