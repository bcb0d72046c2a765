// The emulator's program: one board, until its bench ends. What it is told, and by what:
//   --flash FILE        the flash chip, kept
//   --unique-id HEX     8 octets
//   --bootsel FOLDER    where the drive appears in BOOTSEL mode
//   --serial-fd N       a listening TCP socket, for the USB serial line
//   --uart-fd N         one end of a stream socket pair, for UART0
//   --lifeline-fd N     a pipe: at its end the emulator ends
//   --entropy KIND      host, stuck or replayed; host by default
//   --flash-time F      how much of its typical times the flash takes; 1 by default
//   --cut-after N       the power fails in the flash operation after so many, with status 86
//   --cut-clean         it fails just before that operation begins
// SIGHUP is the reset line, SIGUSR2 the same with BOOTSEL held. At the start, and after each of them,
// a line on stdout says "running" or "bootsel"; what else happens is told on stderr, also why it
// ended by itself, with status 70.
import { createServer, Socket } from 'node:net';
import { parseArgs } from 'node:util';

import { Board } from './board.js';
import { FlashChip } from './flash-chip.js';
import { UartLine, UsbLine } from './lines.js';

const STATUS_FAULT = 70; // sysexits.h, EX_SOFTWARE
const STATUS_POWER_CUT = 86; // as of boards/sim

/** @param {string} what */
function log(what) {
  process.stderr.write(`${what}\n`);
}

/** @param {unknown} error */
function die(error) {
  log(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
  process.exit(STATUS_FAULT);
}

const text = /** @type {const} */ ({ type: 'string' });
const { values } = parseArgs({
  options: {
    flash: text,
    'unique-id': text,
    bootsel: text,
    'serial-fd': text,
    'uart-fd': text,
    'lifeline-fd': text,
    entropy: { ...text, default: 'host' },
    'flash-time': { ...text, default: '1' },
    'cut-after': text,
    'cut-clean': { type: 'boolean', default: false },
  },
});

/** @param {keyof typeof values} name */
function required(name) {
  const value = values[name];
  if (typeof value !== 'string') throw new TypeError(`--${name} is missing`);
  return value;
}

/** @returns {import('./flash-chip.js').Cut | null} */
function cut() {
  const after = values['cut-after'];
  if (after === undefined) return null;
  const happen = () => process.exit(STATUS_POWER_CUT);
  return { after: Number(after), torn: !values['cut-clean'], happen };
}

/** @returns {import('./random-bits.js').Entropy} */
function entropy() {
  const kind = required('entropy');
  if (kind === 'host' || kind === 'stuck' || kind === 'replayed') return kind;
  throw new TypeError(`--entropy ${kind}: it is host, stuck or replayed`);
}

function main() {
  const lifeline = new Socket({ fd: Number(required('lifeline-fd')), readable: true });
  lifeline.on('close', () => process.exit(0)).resume();
  const server = createServer();
  const usb = new UsbLine(server);
  server.on('error', die).listen({ fd: Number(required('serial-fd')) });
  const board = new Board({
    flash: new FlashChip(required('flash'), Buffer.from(required('unique-id'), 'hex'), cut()),
    entropy: entropy(),
    flashTime: Number(required('flash-time')),
    bootselFolder: required('bootsel'),
    usb,
    uart: new UartLine(new Socket({ fd: Number(required('uart-fd')) })),
    log,
  });
  /** @param {{ bootsel?: boolean }} [how] */
  const reset = (how) => process.stdout.write(`${board.reset(how)}\n`);
  process.on('SIGHUP', () => reset());
  process.on('SIGUSR2', () => reset({ bootsel: true }));
  reset();
}

console.warn = () => {}; // rp2040js, of registers that it does not model
process.on('uncaughtException', die);
main();
