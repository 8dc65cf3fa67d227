/**
 * Signals that many calls share.
 *
 * Owns: one listener for all of them, where Node warns of more than ten. Does not own: what an end means.
 */

const LISTENING = new WeakMap<AbortSignal, Set<() => void>>();

/** Calls `then` when the signal is aborted, which it is not yet, unless what it returns is called before. */
export function onAbort(signal: AbortSignal | undefined, then: () => void): () => void {
  if (signal === undefined) return () => undefined;
  const waiting = LISTENING.get(signal) ?? new Set<() => void>();
  if (!LISTENING.has(signal)) {
    LISTENING.set(signal, waiting);
    signal.addEventListener("abort", () => {
      for (const one of [...waiting]) one();
      waiting.clear();
    });
  }
  waiting.add(then);
  return () => waiting.delete(then);
}
