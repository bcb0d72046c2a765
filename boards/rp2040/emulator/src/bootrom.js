// A boot ROM for rp2040js, which comes without one: the functions that the RP2040's data sheet
// documents in 2.8.3 ("Bootrom Contents"), each a breakpoint that is served here. Nothing of the
// chip's own ROM is in it.
import { FLOAT_TABLE } from './rom-float.js';

/** @typedef {import('rp2040js').RP2040} RP2040 */
/** @typedef {import('./flash-chip.js').FlashChip} FlashChip */

const FLASH_START = 0x10000000;
const RAM_START = 0x20000000;
const RAM_END = 0x20042000;

// Places in the ROM: what the data sheet fixes is the header, the rest is ours.
const FUNCTION_TABLE = 0x100;
const DATA_TABLE = 0x102;
const FLOAT_TABLE_AT = 0x200;
const DOUBLE_TABLE_AT = 0x300;
const TABLE_ENTRIES = 32;
const STUBS = 0x400;
const STUB_BYTES = 4;
const MAGIC_AND_VERSION = 0x0201754d; // "Mu", 1, and version 2 of the ROM
const BKPT = 0xbe00;
const BX_LR = 0x4770;

// Second stage: the flash's first page, with a CRC-32 (data sheet 2.8.1.3.1, "Checksum").
const STAGE_2_BYTES = 256;
const STAGE_2_AT = 0x20041f00;
const CRC_POLYNOMIAL = 0x04c11db7;

// What a call costs, in cycles. Flash times: W25Q16JV data sheet 9.6, typical, at 125 MHz.
const CALL_CYCLES = 40;
const FLOAT_CYCLES = 70;
const ERASE_CYCLES = 45e-3 * 125e6;
const PROGRAM_CYCLES = 0.4e-3 * 125e6;
const SECTOR_BYTES = 4096;
const PAGE_BYTES = 256;

/** @typedef {{ onUsbBoot: () => void, flashTime: number }} BootRomOptions */

export class BootRom {
  /** Cycles that served calls took and that the clock has not been told of yet. */
  cycles = 0;
  /** @type {(() => void)[]} */
  #served = [];
  #rp2040;
  #flash;
  #options;

  /**
   * @param {RP2040} rp2040 its ROM is filled and its breakpoints are taken
   * @param {FlashChip} flash
   * @param {BootRomOptions} options `onUsbBoot`: the program wants BOOTSEL mode; `flashTime`: how
   *   much of the chip's typical time an erase or a program takes, 1 being all of it
   */
  constructor(rp2040, flash, options) {
    this.#rp2040 = rp2040;
    this.#flash = flash;
    this.#options = options;
    this.#fill();
    rp2040.onBreak = (code) => this.#serve(code);
  }

  /**
   * Start the program in the flash, as the ROM does after a reset.
   * @returns {boolean} false if the second stage is none: the ROM goes to BOOTSEL mode
   */
  start() {
    const stage2 = this.#flash.memory.subarray(0, STAGE_2_BYTES);
    const expected = new DataView(stage2.buffer, STAGE_2_BYTES - 4, 4).getUint32(0, true);
    if (crc32(stage2.subarray(0, STAGE_2_BYTES - 4)) !== expected) return false;
    const { core, sram } = this.#rp2040;
    sram.set(stage2, STAGE_2_AT - RAM_START);
    core.SP = STAGE_2_AT;
    core.LR = 0; // the second stage enters the vector table behind it
    core.PC = STAGE_2_AT;
    return true;
  }

  #fill() {
    const rom = new DataView(this.#rp2040.bootrom.buffer);
    const functions = this.#functions(rom);
    const tables = /** @type {Record<string, number>} */ ({ SF: FLOAT_TABLE_AT, SD: DOUBLE_TABLE_AT });
    const lookUp = this.#stub(rom, CALL_CYCLES, (r) => {
      const code = String.fromCharCode((r[1] ?? 0) & 255, ((r[1] ?? 0) >> 8) & 255);
      r[0] = (r[0] === FUNCTION_TABLE ? functions[code] : tables[code]) ?? 0;
    });
    rom.setUint32(0, RAM_END, true);
    rom.setUint32(0x10, MAGIC_AND_VERSION, true);
    rom.setUint16(0x14, FUNCTION_TABLE, true);
    rom.setUint16(0x16, DATA_TABLE, true);
    rom.setUint16(0x18, lookUp, true);
    for (let index = 0; index < TABLE_ENTRIES; index++) {
      const single = FLOAT_TABLE[index] ?? missing(`float function ${index}`);
      rom.setUint32(FLOAT_TABLE_AT + 4 * index, this.#stub(rom, FLOAT_CYCLES, single), true);
      const double = missing(`double function ${index}`);
      rom.setUint32(DOUBLE_TABLE_AT + 4 * index, this.#stub(rom, 0, double), true);
    }
    rom.setUint8(FLOAT_TABLE_AT - 2, TABLE_ENTRIES);
    rom.setUint8(DOUBLE_TABLE_AT - 2, TABLE_ENTRIES);
  }

  /**
   * @param {DataView} rom
   * @returns {Record<string, number>} code of two letters → address
   */
  #functions(rom) {
    const named = /** @type {[string, import('./rom-float.js').RomFunction][]} */ ([
      ['P3', (r) => (r[0] = onesIn(r[0] ?? 0))],
      ['R3', (r) => (r[0] = reversed(r[0] ?? 0))],
      ['L3', (r) => (r[0] = Math.clz32(r[0] ?? 0))],
      ['T3', (r) => (r[0] = r[0] ? 31 - Math.clz32(r[0] & -r[0]) : 32)],
      ['MS', (r) => this.#fillMemory(r[0] ?? 0, r[1] ?? 0, r[2] ?? 0)],
      ['S4', (r) => this.#fillMemory(r[0] ?? 0, r[1] ?? 0, r[2] ?? 0)],
      ['MC', (r) => this.#copyMemory(r[0] ?? 0, r[1] ?? 0, r[2] ?? 0)],
      ['C4', (r) => this.#copyMemory(r[0] ?? 0, r[1] ?? 0, r[2] ?? 0)],
      ['RE', (r) => this.#erase(r[0] ?? 0, r[1] ?? 0)],
      ['RP', (r) => this.#program(r[0] ?? 0, r[1] ?? 0, r[2] ?? 0)],
      ['UB', () => this.#options.onUsbBoot()],
      ['IF', nothing], // the flash is connected and readable all the time
      ['EX', nothing],
      ['FC', () => this.#flash.select(false)],
      ['CX', nothing],
    ]);
    return Object.fromEntries(named.map(([code, serve]) => [code, this.#stub(rom, CALL_CYCLES, serve)]));
  }

  /**
   * @param {DataView} rom
   * @param {number} cycles
   * @param {import('./rom-float.js').RomFunction} serve
   * @returns {number} the function's address, its Thumb bit set
   */
  #stub(rom, cycles, serve) {
    const { registers } = this.#rp2040.core;
    const code =
      this.#served.push(() => {
        this.cycles += cycles;
        serve(registers);
      }) - 1;
    if (code > 0xff) throw new RangeError('a breakpoint has 256 codes');
    const address = STUBS + STUB_BYTES * code;
    rom.setUint16(address, BKPT | code, true);
    rom.setUint16(address + 2, BX_LR, true);
    return address | 1;
  }

  /** @param {number} code */
  #serve(code) {
    const { core } = this.#rp2040;
    const address = core.PC - 2;
    const served = address === STUBS + STUB_BYTES * code ? this.#served[code] : undefined;
    if (!served) throw new ProgramFault(`breakpoint ${code} at ${hex(address)}`, core);
    served();
  }

  /**
   * @param {number} target
   * @param {number} octet
   * @param {number} length
   */
  #fillMemory(target, octet, length) {
    this.cycles += length >> 1;
    if (inRam(target, length)) {
      this.#rp2040.sram.fill(octet & 255, target - RAM_START, target - RAM_START + length);
    } else {
      for (let at = target; at < target + length; at++) this.#rp2040.writeUint8(at, octet & 255);
    }
  }

  /**
   * @param {number} target
   * @param {number} source
   * @param {number} length
   */
  #copyMemory(target, source, length) {
    this.cycles += length;
    if (inRam(target, length)) {
      this.#rp2040.sram.set(this.#read(source, length), target - RAM_START);
    } else {
      for (let i = 0; i < length; i++) {
        this.#rp2040.writeUint8(target + i, this.#rp2040.readUint8(source + i));
      }
    }
  }

  /**
   * @param {number} source
   * @param {number} length
   * @returns {Uint8Array}
   */
  #read(source, length) {
    const { sram, flash } = this.#rp2040;
    if (inRam(source, length)) return sram.slice(source - RAM_START, source - RAM_START + length);
    if (source >= FLASH_START && source + length <= FLASH_START + flash.length) {
      return flash.subarray(source - FLASH_START, source - FLASH_START + length);
    }
    return Uint8Array.from({ length }, (_, i) => this.#rp2040.readUint8(source + i));
  }

  /**
   * @param {number} offset
   * @param {number} length
   */
  #erase(offset, length) {
    this.#flash.erase(offset, length);
    this.cycles += (length / SECTOR_BYTES) * ERASE_CYCLES * this.#options.flashTime;
  }

  /**
   * @param {number} offset
   * @param {number} source
   * @param {number} length
   */
  #program(offset, source, length) {
    this.#flash.program(offset, this.#read(source, length));
    this.cycles += (length / PAGE_BYTES) * PROGRAM_CYCLES * this.#options.flashTime;
  }
}

/** The program on the chip did what ends it: a breakpoint of its own, or a ROM call that is missing. */
export class ProgramFault extends Error {
  /**
   * @param {string} what
   * @param {import('rp2040js').RP2040['core']} core
   */
  constructor(what, core) {
    super(`${what}, PC=${hex(core.PC)} LR=${hex(core.LR)}`);
    this.name = 'ProgramFault';
  }
}

/**
 * CRC-32/MPEG-2: no reflection, no final inversion (data sheet 2.8.1.3.1).
 * @param {Uint8Array} octets
 */
export function crc32(octets) {
  let crc = 0xffffffff;
  for (const octet of octets) {
    crc ^= octet << 24;
    for (let bit = 0; bit < 8; bit++) crc = crc < 0 ? (crc << 1) ^ CRC_POLYNOMIAL : crc << 1;
  }
  return crc >>> 0;
}

function nothing() {}

/**
 * @param {string} what
 * @returns {import('./rom-float.js').RomFunction}
 */
function missing(what) {
  return () => {
    throw new Error(`the program calls the boot ROM's ${what}, which this ROM does not have`);
  };
}

/**
 * @param {number} address
 * @param {number} length
 */
const inRam = (address, length) => address >= RAM_START && address + length <= RAM_END;

/** @param {number} value */
const hex = (value) => `0x${(value >>> 0).toString(16)}`;

/** @param {number} word */
function onesIn(word) {
  let ones = 0;
  for (let left = word; left; left = (left & (left - 1)) >>> 0) ones++;
  return ones;
}

/** @param {number} word */
function reversed(word) {
  let result = 0;
  for (let bit = 0; bit < 32; bit++) result = (result << 1) | ((word >>> bit) & 1);
  return result >>> 0;
}
