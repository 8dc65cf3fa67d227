/**
 * Waiting, by a clock that never jumps.
 *
 * Owns: timers of any length, which Node's are not. Does not own: what is waited for.
 */

import { onAbort } from "./abort.js";

/** Longest timer of Node; a longer one would end at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Calls `then` after so many milliseconds, unless what it returns is called before. */
export function after(milliseconds: number, then: () => void): () => void {
  const until = performance.now() + milliseconds;
  let timer: NodeJS.Timeout;
  const go = () => {
    const left = until - performance.now();
    timer = left > TIMER_MAX_MS ? setTimeout(go, TIMER_MAX_MS) : setTimeout(then, Math.max(left, 0));
  };
  go();
  return () => clearTimeout(timer);
}

/** Waits; ends early with the signal's reason. */
export function sleep(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const end = (settle: () => void) => {
      stop();
      forget();
      settle();
    };
    const stop = after(milliseconds, () => end(resolve));
    const forget = onAbort(signal, () => end(() => reject(signal?.reason)));
  });
}
