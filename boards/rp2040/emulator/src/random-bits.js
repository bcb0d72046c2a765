// Where the ring oscillator's random bit comes from.
import { randomBytes } from 'node:crypto';

/** @typedef {'host' | 'stuck' | 'replayed'} Entropy as boards' other emulators call it */

const POOL_BYTES = 4096;
const REPLAYED_SEED = 0x2545f491;

/**
 * Return a source of bits that begins anew with each call.
 * @param {Entropy} entropy the host's randomness; always the same bit; the same plausible bits
 * @returns {() => number}
 */
export function randomBits(entropy) {
  if (entropy === 'stuck') return () => 1;
  if (entropy === 'replayed') {
    let state = REPLAYED_SEED;
    return () => {
      state ^= state << 13; // xorshift32, Marsaglia 2003
      state ^= state >>> 17;
      state ^= state << 5;
      return state & 1;
    };
  }
  let pool = randomBytes(POOL_BYTES);
  let at = 0;
  return () => {
    if (at === 8 * POOL_BYTES) {
      pool = randomBytes(POOL_BYTES);
      at = 0;
    }
    const bit = (pool[at >> 3] ?? 0) >> (at & 7);
    at += 1;
    return bit & 1;
  };
}
