// What the tests share: a chip, and programs for it that are a few instructions long.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { crc32 } from '../src/bootrom.js';

export const UNIQUE_ID = Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8]);

/** @param {import('node:test').TestContext} test its folder is removed after it */
export function folderFor(test) {
  const folder = mkdtempSync(join(tmpdir(), 'handfast-rp2040-'));
  test.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/**
 * Return a flash image whose second stage is the given Thumb code.
 * @param {number[]} halfwords at most 126
 */
export function image(halfwords) {
  const octets = new Uint8Array(4096).fill(0xff);
  const view = new DataView(octets.buffer);
  halfwords.forEach((halfword, index) => view.setUint16(2 * index, halfword, true));
  view.setUint32(252, crc32(octets.subarray(0, 252)), true);
  return octets;
}

/**
 * Wait until a condition holds.
 * @param {() => boolean} condition
 * @param {string} what
 */
export async function until(condition, what) {
  const giveUp = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > giveUp) throw new Error(`waited 20 s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
