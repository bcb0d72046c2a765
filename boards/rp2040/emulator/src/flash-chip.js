// The flash chip of a Pico (W25Q16JV, 2 MB): a file that is written at each operation, so that
// what a killed emulator leaves is what a board without power keeps.
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';

export const FLASH_BYTES = 2 << 20;
export const SECTOR_BYTES = 4096;
export const PAGE_BYTES = 256;

// W25Q16JV data sheet, 8.1.2 "Instruction Set Table 1"
const READ_STATUS_2 = 0x35;
const READ_STATUS_1 = 0x05;
const READ_UNIQUE_ID = 0x4b;
const READ_JEDEC_ID = 0x9f;
const UNIQUE_ID_AT = 5; // the instruction and four dummy octets
const JEDEC_ID = [0xef, 0x40, 0x15];

/**
 * A power failure in an operation of the chip.
 * @typedef {object} Cut
 * @property {number} after so many operations that are finished
 * @property {boolean} torn whether half of the next one is done, or nothing
 * @property {() => void} happen does not return
 */

export class FlashChip {
  /** The octets as the chip's XIP window shows them; a machine maps its own copy by `attach`. */
  memory = new Uint8Array(FLASH_BYTES).fill(0xff);
  /** @type {Uint8Array | null} */
  #mapped = null;
  /** @type {number[]} */
  #received = [];
  #selected = false;
  #operations = 0;
  #file;
  #uniqueId;
  #cut;

  /**
   * @param {string} path the image; one that is not there, or short, is blank (0xff) from there on
   * @param {Uint8Array} uniqueId 8 octets
   * @param {Cut | null} cut
   */
  constructor(path, uniqueId, cut = null) {
    this.#cut = cut;
    if (uniqueId.length !== 8) throw new RangeError('a flash chip has a unique id of 8 octets');
    this.#uniqueId = uniqueId;
    this.#file = openSync(path, openFlags(), 0o600);
    const length = Math.min(fstatSync(this.#file).size, FLASH_BYTES);
    readSync(this.#file, this.memory, 0, length, 0);
    if (length < FLASH_BYTES) writeSync(this.#file, this.memory, length, FLASH_BYTES - length, length);
  }

  close() {
    closeSync(this.#file);
  }

  /** @param {Uint8Array} window the XIP window of a machine, kept as the chip is from now on */
  attach(window) {
    window.set(this.memory);
    this.#mapped = window;
  }

  /**
   * @param {number} offset
   * @param {number} length both multiples of a sector
   */
  erase(offset, length) {
    requireInside(offset, length, SECTOR_BYTES);
    this.#operate(length, (done) => {
      this.memory.fill(0xff, offset, offset + done);
      this.#keep(offset, done);
    });
  }

  /**
   * @param {number} offset a multiple of a page, as is the data's length
   * @param {Uint8Array} data bits can be cleared only
   */
  program(offset, data) {
    requireInside(offset, data.length, PAGE_BYTES);
    this.#operate(data.length, (done) => {
      for (const [index, octet] of data.subarray(0, done).entries()) {
        this.memory[offset + index] = /** @type {number} */ (this.memory[offset + index]) & octet;
      }
      this.#keep(offset, done);
    });
  }

  /**
   * @param {number} length
   * @param {(done: number) => void} operation does the first octets of it
   */
  #operate(length, operation) {
    if (this.#cut && this.#operations === this.#cut.after) {
      if (this.#cut.torn) operation(length / 2);
      this.#cut.happen();
    }
    this.#operations += 1;
    operation(length);
  }

  /** @param {boolean} selected the chip-select line, which also ends an instruction */
  select(selected) {
    this.#selected = selected;
    this.#received = [];
  }

  get selected() {
    return this.#selected;
  }

  /**
   * One octet to the chip on its serial line, one octet back.
   * @param {number} octet
   * @returns {number}
   */
  transfer(octet) {
    const at = this.#received.push(octet) - 1;
    switch (this.#received[0]) {
      case READ_UNIQUE_ID:
        return this.#uniqueId[at - UNIQUE_ID_AT] ?? 0;
      case READ_JEDEC_ID:
        return JEDEC_ID[at - 1] ?? 0;
      case READ_STATUS_1: // not busy
      case READ_STATUS_2:
      default:
        return 0;
    }
  }

  /**
   * @param {number} offset
   * @param {number} length
   */
  #keep(offset, length) {
    this.#mapped?.set(this.memory.subarray(offset, offset + length), offset);
    writeSync(this.#file, this.memory, offset, length, offset);
  }
}

/**
 * @param {number} offset
 * @param {number} length
 * @param {number} unit
 */
function requireInside(offset, length, unit) {
  if (offset % unit || length % unit || offset < 0 || offset + length > FLASH_BYTES) {
    throw new RangeError(`the flash has no ${length} octets at 0x${offset.toString(16)}`);
  }
}

function openFlags() {
  return 0o2 | 0o100 | 0o2000000; // O_RDWR | O_CREAT | O_CLOEXEC: kept, if it is there
}
