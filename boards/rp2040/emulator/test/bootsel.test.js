import assert from 'node:assert/strict';
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { BootselDrive } from '../src/bootsel.js';
import { FlashChip } from '../src/flash-chip.js';
import { readBlock } from '../src/uf2.js';
import { folderFor, UNIQUE_ID, until } from './chip.js';

const FLASH_BYTES = 2 << 20;

/**
 * @param {Partial<{ address: number, flags: number, family: number, size: number, number: number,
 *   count: number, end: number, data: number }>} but
 */
function block(but = {}) {
  const fields = { address: 0x10000000, flags: 0x2000, family: 0xe48bff56, size: 256, number: 0 };
  const all = { ...fields, count: 1, end: 0x0ab16f30, data: 0x5a, ...but };
  const sector = Buffer.alloc(512);
  const words = [0x0a324655, 0x9e5d5157, all.flags, all.address, all.size, all.number, all.count];
  [...words, all.family].forEach((word, index) => sector.writeUInt32LE(word, 4 * index));
  sector.fill(all.data, 32, 32 + 256);
  sector.writeUInt32LE(all.end, 508);
  return sector;
}

/**
 * @param {import('node:test').TestContext} t
 */
function driveFor(t) {
  const folder = folderFor(t);
  const flash = new FlashChip(join(folder, 'flash.img'), UNIQUE_ID);
  flash.program(0, new Uint8Array(4096).fill(0xaa));
  flash.program(4096, new Uint8Array(4096).fill(0xaa));
  const state = { whole: 0 };
  const path = join(folder, 'RPI-RP2');
  const drive = new BootselDrive(path, flash, () => (state.whole += 1));
  t.after(() => {
    drive.eject();
    flash.close();
  });
  return { path, flash, state };
}

for (const [why, but] of /** @type {const} */ ([
  ['another family', { family: 0xe48bff59 }],
  ['no family', { flags: 0 }],
  ['not main flash', { flags: 0x2001 }],
  ['another size', { size: 128 }],
  ['off a page', { address: 0x10000080 }],
  ['before the flash', { address: 0x0fffff00 }],
  ['behind the flash', { address: 0x10200000 }],
  ['a number that is not below the count', { number: 1 }],
  ['a wrong last magic number', { end: 0 }],
])) {
  test(`a block is ignored: ${why}`, () => assert.equal(readBlock(block(but), FLASH_BYTES), null));
}

test('the drive says what it is', (t) => {
  const { path } = driveFor(t);
  assert.match(readFileSync(join(path, 'INFO_UF2.TXT'), 'ascii'), /^Board-ID: RPI-RP2\r$/m);
  assert.ok(existsSync(join(path, 'INDEX.HTM')));
});

test('a file that grows is taken block by block, and the last one takes the drive away', async (t) => {
  const { path, flash, state } = driveFor(t);
  const file = join(path, 'FIRMWARE.UF2');
  const second = block({ number: 1, count: 2, address: 0x10000100, data: 0x22 });
  writeFileSync(file, block({ count: 2, data: 0x11 }));
  appendFileSync(file, second.subarray(0, 100));
  await until(() => flash.memory[0] === 0x11, 'the first block');
  assert.equal(flash.memory[256], 0xff); // its sector was erased with the first
  assert.equal(state.whole, 0);
  appendFileSync(file, second.subarray(100));
  await until(() => state.whole === 1, 'the end');
  assert.deepEqual([flash.memory[255], flash.memory[256]], [0x11, 0x22]);
  assert.equal(flash.memory[4096], 0xaa); // what lies behind stays
  assert.ok(!existsSync(path));
});

test('what is no UF2 is ignored, and a folder too', async (t) => {
  const { path, flash, state } = driveFor(t);
  const { mkdirSync } = await import('node:fs');
  mkdirSync(join(path, 'folder'));
  writeFileSync(join(path, 'a.txt'), Buffer.alloc(2048, 1));
  writeFileSync(join(path, 'b.uf2'), block());
  await until(() => state.whole === 1, 'the good file');
  assert.equal(flash.memory[0], 0x5a);
});

test('the same block twice counts once', async (t) => {
  const { path, flash, state } = driveFor(t);
  const one = block({ count: 2 });
  writeFileSync(join(path, 'a.uf2'), Buffer.concat([one, one, block({ number: 1, count: 2, address: 0x10000100, data: 1 })]));
  await until(() => state.whole === 1, 'the end');
  assert.deepEqual([flash.memory[0], flash.memory[256]], [0x5a, 1]);
});
