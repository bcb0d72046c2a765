import assert from 'node:assert/strict';
import { test } from 'node:test';

import { RP2040 } from 'rp2040js';

import { Pl011 } from '../src/pl011.js';

const [DR, FR, IBRD, CR, IFLS, IMSC, RIS, ICR] = [0, 0x18, 0x24, 0x30, 0x34, 0x38, 0x3c, 0x44];
const [RX, TX, RT] = [1 << 4, 1 << 5, 1 << 6];
const IRQ = 20;

function uart() {
  const chip = new RP2040();
  const clock = /** @type {{ tick: (nanos: number) => void }} */ (/** @type {unknown} */ (chip.clock));
  const port = new Pl011(chip, 'UART0', IRQ);
  const left = /** @type {number[]} */ ([]);
  port.onOctet = (octet) => left.push(octet);
  const write = (/** @type {number} */ at, /** @type {number} */ value) => port.writeUint32Atomic(at, value, 0);
  write(IBRD, 8); // 125 MHz / (16 * 8): about a microsecond a bit
  write(CR, 0x301);
  const characters = (/** @type {number} */ count) => clock.tick(count * port.characterNanos + 1);
  return { chip, port, left, write, characters, pending: () => (chip.core.pendingInterrupts >> IRQ) & 1 };
}

test('octets leave one by one, at the speed of the line', () => {
  const { port, left, write, characters } = uart();
  for (let octet = 0; octet < 32; octet++) write(DR, octet);
  assert.ok(port.readUint32(FR) & (1 << 5), 'full');
  characters(2);
  assert.deepEqual(left, [0, 1]);
  characters(31);
  assert.equal(left.length, 32);
  assert.equal(port.readUint32(FR) & 0xb8, 0x90, 'empty, not busy');
});

test('the transmit interrupt comes once at its level, and stays cleared', () => {
  const { port, write, characters, pending } = uart();
  write(IMSC, TX);
  write(IFLS, 0x12); // half
  for (let octet = 0; octet < 20; octet++) write(DR, octet);
  characters(3);
  assert.equal(pending(), 0);
  characters(1);
  assert.equal(pending(), 1);
  write(ICR, TX);
  assert.equal(pending(), 0);
  characters(20);
  assert.equal(port.readUint32(RIS) & TX, 0);
});

test('the receive interrupt is there from its level on, until enough is read', () => {
  const { port, write, pending } = uart();
  write(IMSC, RX);
  write(IFLS, 0x1a); // three quarters
  for (let octet = 0; octet < 23; octet++) port.receive(octet);
  assert.equal(pending(), 0);
  port.receive(23);
  assert.equal(pending(), 1);
  assert.equal(port.readUint32(DR), 0);
  assert.equal(pending(), 0);
});

test('silence after an octet is told, again if it was cleared and the octet is still there', () => {
  const { port, write, characters, pending } = uart();
  write(IMSC, RT);
  port.receive(7);
  characters(3); // 30 bits
  assert.equal(pending(), 0);
  characters(1);
  assert.equal(pending(), 1);
  write(ICR, RT);
  assert.equal(pending(), 0);
  characters(4);
  assert.equal(pending(), 1);
  port.readUint32(DR);
  assert.equal(pending(), 0);
  characters(10);
  assert.equal(pending(), 0);
});

test('it has room for 32 octets, and none while it is off', () => {
  const { port, write } = uart();
  for (let octet = 0; octet < 32; octet++) port.receive(octet);
  assert.equal(port.room, 0);
  let told = 0;
  port.onRoom = () => (told += 1);
  port.readUint32(DR);
  assert.deepEqual([port.room, told], [1, 1]);
  write(CR, 0);
  assert.equal(port.room, 0);
});
