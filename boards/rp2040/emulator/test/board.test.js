// A board with programs of a few instructions: what the boot ROM and the bench around it do.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { createServer, connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';

import { Board } from '../src/board.js';
import { crc32 } from '../src/bootrom.js';
import { FlashChip } from '../src/flash-chip.js';
import { UartLine, UsbLine } from '../src/lines.js';
import { randomBits } from '../src/random-bits.js';
import { FLOAT_TABLE } from '../src/rom-float.js';
import { folderFor, image, UNIQUE_ID, until } from './chip.js';

// If a scratch register of the watchdog is 0: set it, and have the watchdog reset the chip. Else
// look up the ROM's reset_to_usb_boot, and call it.
const RESET_THEN_BOOTSEL = [
  0x480b, // ldr r0, =0x40058000
  0x68c1, // ldr r1, [r0, #12]
  0x2900, // cmp r1, #0
  0xd104, // bne usb
  0x2101, // movs r1, #1
  0x60c1, // str r1, [r0, #12]
  0x4909, // ldr r1, =0x80000000
  0x6001, // str r1, [r0]
  0xe7fe, // b .
  0x2018, // usb: movs r0, #0x18
  0x8802, // ldrh r2, [r0]
  0x2314, // movs r3, #0x14
  0x8818, // ldrh r0, [r3]
  0x4907, // ldr r1, ='UB'
  0x4790, // blx r2
  0x4780, // blx r0
  0xe7fe, // b .
  ...new Array(7).fill(0),
  ...[0x8000, 0x4005, 0x0000, 0x8000, 0x4255, 0x0000],
];

/**
 * @param {import('node:test').TestContext} t
 * @param {number[]} program
 * @param {number} flipped bits of the first octet that are wrong in the flash
 */
async function boardWith(t, program, flipped = 0) {
  const folder = folderFor(t);
  const flash = new FlashChip(join(folder, 'flash.img'), UNIQUE_ID);
  if (program.length) {
    const octets = image(program);
    octets[0] = /** @type {number} */ (octets[0]) ^ flipped;
    flash.program(0, octets);
  }
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const far = createServer().listen(join(folder, 'uart'));
  await new Promise((resolve) => far.once('listening', resolve));
  const uart = connect(join(folder, 'uart'));
  const log = /** @type {string[]} */ ([]);
  const drive = join(folder, 'RPI-RP2');
  const board = new Board({
    flash,
    entropy: 'host',
    flashTime: 0,
    bootselFolder: drive,
    usb: new UsbLine(server),
    uart: new UartLine(uart),
    log: (what) => log.push(what),
  });
  t.after(() => {
    board.stop();
    uart.destroy();
    far.close();
    server.close();
    flash.close();
  });
  const address = server.address();
  if (!address || typeof address === 'string') throw new Error('no address');
  return { board, drive, log, port: address.port };
}

test('a blank board shows its drive, and takes it away with its power', async (t) => {
  const { board, drive } = await boardWith(t, []);
  assert.equal(board.reset(), 'bootsel');
  assert.ok(existsSync(join(drive, 'INFO_UF2.TXT')));
  board.stop();
  assert.ok(!existsSync(drive));
});

test('a second stage with a wrong checksum is not run', async (t) => {
  const { board } = await boardWith(t, [0xe7fe]);
  assert.equal(board.reset(), 'running');
  const { board: damaged } = await boardWith(t, [0xe7fe], 1);
  assert.equal(damaged.reset(), 'bootsel');
});

test('scratch registers survive a watchdog reset, and a program gets to BOOTSEL mode', async (t) => {
  const { board, drive, log } = await boardWith(t, RESET_THEN_BOOTSEL);
  assert.equal(board.reset(), 'running');
  await until(() => log.includes('reset by usb-boot'), 'BOOTSEL mode');
  assert.deepEqual(log, ['reset by watchdog', 'reset by usb-boot', 'BOOTSEL: waiting for a UF2 file']);
  assert.ok(existsSync(drive));
});

test('BOOTSEL held at a reset shows the drive of a board that has a program', async (t) => {
  const { board, drive } = await boardWith(t, [0xe7fe]);
  assert.equal(board.reset({ bootsel: true }), 'bootsel');
  assert.ok(existsSync(drive));
  assert.equal(board.reset(), 'running');
  assert.ok(!existsSync(drive));
});

test('in BOOTSEL mode there is no serial line', async (t) => {
  const { board, port } = await boardWith(t, []);
  board.reset();
  const client = connect(port, '127.0.0.1');
  let closed = false;
  client.on('close', () => (closed = true)).on('error', () => {});
  await until(() => closed, 'the client to be turned away');
});

test('the checksum is that of the data sheet', () => {
  assert.equal(crc32(new TextEncoder().encode('123456789')), 0x0376e6e7); // CRC-32/MPEG-2
});

test('a stuck random bit is one bit, a replayed one begins the same each time', () => {
  const take = (/** @type {() => number} */ bit) => Array.from({ length: 64 }, bit);
  assert.equal(new Set(take(randomBits('stuck'))).size, 1);
  assert.deepEqual(take(randomBits('replayed')), take(randomBits('replayed')));
  assert.notDeepEqual(take(randomBits('host')), take(randomBits('host')));
  assert.equal(new Set(take(randomBits('replayed'))).size, 2);
});

test('floating point of the ROM', () => {
  const call = (/** @type {number} */ index, /** @type {number[]} */ ...words) => {
    const registers = Uint32Array.from([...words, 0, 0, 0, 0]);
    FLOAT_TABLE[index]?.(registers);
    return registers;
  };
  const [ONE, TWO, HALF, MINUS_1_5] = [0x3f800000, 0x40000000, 0x3f000000, 0xbfc00000];
  assert.equal(call(0, ONE, ONE)[0], TWO);
  assert.equal(call(3, ONE, TWO)[0], HALF);
  assert.equal(call(7, MINUS_1_5)[0], 0xfffffffe); // towards minus infinity
  assert.equal(call(9, MINUS_1_5)[0], 0);
  assert.equal(call(8, HALF, 4)[0], 8); // 0.5 in sixteenths
  assert.equal(call(11, 0xffffffff)[0], 0xbf800000);
  assert.equal(call(13, 0xffffffff)[0], 0x4f800000);
  assert.deepEqual([...call(27, MINUS_1_5)].slice(0, 2), [0xfffffffe, 0xffffffff]);
  assert.deepEqual([...call(31, ONE)].slice(0, 2), [0, 0x3ff00000]);
});
