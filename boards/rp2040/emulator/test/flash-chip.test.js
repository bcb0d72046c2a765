import assert from 'node:assert/strict';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { FLASH_BYTES, FlashChip } from '../src/flash-chip.js';
import { folderFor, UNIQUE_ID } from './chip.js';

test('a new chip is blank, and its file is whole', (t) => {
  const path = join(folderFor(t), 'flash.img');
  new FlashChip(path, UNIQUE_ID).close();
  const file = readFileSync(path);
  assert.equal(file.length, FLASH_BYTES);
  assert.ok(file.every((octet) => octet === 0xff));
});

test('each operation is in the file at once, and clears bits only', (t) => {
  const path = join(folderFor(t), 'flash.img');
  const chip = new FlashChip(path, UNIQUE_ID);
  chip.program(256, new Uint8Array(256).fill(0b1010));
  chip.program(256, new Uint8Array(256).fill(0b0110));
  assert.equal(readFileSync(path)[256], 0b0010);
  chip.erase(0, 4096);
  assert.equal(readFileSync(path)[256], 0xff);
  chip.close();
});

test('what it held is there again, also from a file that is too short', (t) => {
  const path = join(folderFor(t), 'flash.img');
  writeFileSync(path, Buffer.alloc(FLASH_BYTES, 7));
  truncateSync(path, 8192);
  const chip = new FlashChip(path, UNIQUE_ID);
  assert.deepEqual([...chip.memory.subarray(8190, 8194)], [7, 7, 0xff, 0xff]);
  chip.close();
});

test('a machine sees in its window what is written', (t) => {
  const chip = new FlashChip(join(folderFor(t), 'flash.img'), UNIQUE_ID);
  const window = new Uint8Array(FLASH_BYTES);
  chip.attach(window);
  chip.program(512, new Uint8Array(256).fill(1));
  assert.deepEqual([window[511], window[512]], [0xff, 1]);
  chip.close();
});

test('operations across an end, or off a page or sector, are refused', (t) => {
  const chip = new FlashChip(join(folderFor(t), 'flash.img'), UNIQUE_ID);
  const page = new Uint8Array(256);
  assert.throws(() => chip.program(128, page), RangeError);
  assert.throws(() => chip.program(0, page.subarray(1)), RangeError);
  assert.throws(() => chip.program(FLASH_BYTES, page), RangeError);
  assert.throws(() => chip.erase(2048, 4096), RangeError);
  assert.throws(() => chip.erase(FLASH_BYTES - 4096, 8192), RangeError);
  chip.close();
});

test('it tells its unique id and its JEDEC id on the serial line', (t) => {
  const chip = new FlashChip(join(folderFor(t), 'flash.img'), UNIQUE_ID);
  const ask = (/** @type {number} */ instruction, /** @type {number} */ octets) => {
    chip.select(true);
    const answer = [instruction, ...new Array(octets).fill(0)].map((octet) => chip.transfer(octet));
    chip.select(false);
    return answer;
  };
  assert.deepEqual(ask(0x4b, 12).slice(5), [...UNIQUE_ID]);
  assert.deepEqual(ask(0x9f, 3).slice(1), [0xef, 0x40, 0x15]);
  assert.deepEqual(ask(0x05, 1), [0, 0]);
  chip.close();
});

test('the power fails in the operation after so many, half done or not begun', (t) => {
  for (const [torn, expected] of /** @type {const} */ ([[true, [9, 9]], [false, [0xff, 0xff]]])) {
    const path = join(folderFor(t), 'flash.img');
    const happen = () => {
      throw new Error('no power');
    };
    const chip = new FlashChip(path, UNIQUE_ID, { after: 1, torn, happen });
    chip.program(0, new Uint8Array(256).fill(5));
    assert.throws(() => chip.program(256, new Uint8Array(256).fill(9)), /no power/);
    const file = readFileSync(path);
    assert.deepEqual([file[255], file[256], file[383], file[384]], [5, ...expected, 0xff]);
    chip.close();
  }
});
