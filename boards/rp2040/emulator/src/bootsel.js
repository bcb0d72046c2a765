// The drive that the RP2040's boot ROM shows in BOOTSEL mode (data sheet 2.8.4, "USB Mass Storage
// Interface"): a folder, whose files are taken 512 octets at a time as they grow.
import { closeSync, mkdirSync, openSync, readdirSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { SECTOR_BYTES } from './flash-chip.js';
import { BLOCK_BYTES, readBlock } from './uf2.js';

const LOOK_AGAIN_MS = 20;
const INFO = 'UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n';
const INDEX =
  '<html><head><meta http-equiv="refresh" content="0;URL=\'https://raspberrypi.com/device/RP2\'"/>' +
  '</head></html>\r\n';
const OWN_FILES = /** @type {Record<string, string>} */ ({ 'INFO_UF2.TXT': INFO, 'INDEX.HTM': INDEX });

export class BootselDrive {
  /** @type {Map<string, number>} */
  #taken = new Map();
  /** @type {Set<number>} */
  #seen = new Set();
  /** @type {Set<number>} */
  #erased = new Set();
  #count = 0;
  /** @type {NodeJS.Timeout | null} */
  #timer = null;
  #folder;
  #flash;
  #onWhole;

  /**
   * @param {string} folder made now, removed when the drive goes away
   * @param {import('./flash-chip.js').FlashChip} flash
   * @param {() => void} onWhole called once a whole UF2 file is in the flash, the drive gone
   */
  constructor(folder, flash, onWhole) {
    this.#folder = folder;
    this.#flash = flash;
    this.#onWhole = onWhole;
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    for (const [name, text] of Object.entries(OWN_FILES)) writeFileSync(join(folder, name), text);
    this.#look();
  }

  /** Take the drive away, whatever was written to it. */
  eject() {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #look() {
    for (const name of readdirSync(this.#folder)) {
      if (!(name in OWN_FILES) && this.#takeFile(name)) {
        this.eject();
        this.#onWhole();
        return;
      }
    }
    this.#timer = setTimeout(() => this.#look(), LOOK_AGAIN_MS);
  }

  /**
   * @param {string} name
   * @returns {boolean} whether the flash has a whole file now
   */
  #takeFile(name) {
    let file;
    try {
      file = openSync(join(this.#folder, name), 'r');
    } catch {
      return false; // removed again, or a folder that may not be read
    }
    try {
      const sector = new Uint8Array(BLOCK_BYTES);
      for (;;) {
        const at = this.#taken.get(name) ?? 0;
        if (readSync(file, sector, 0, BLOCK_BYTES, at) < BLOCK_BYTES) return false;
        this.#taken.set(name, at + BLOCK_BYTES);
        if (this.#takeSector(sector)) return true;
      }
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EISDIR') return false;
      throw error;
    } finally {
      closeSync(file);
    }
  }

  /** @param {Uint8Array} sector */
  #takeSector(sector) {
    const block = readBlock(sector, this.#flash.memory.length);
    if (!block) return false;
    if (block.count !== this.#count) {
      this.#count = block.count; // another file begins
      this.#seen.clear();
      this.#erased.clear();
    }
    if (!this.#seen.has(block.number)) {
      const start = block.offset - (block.offset % SECTOR_BYTES);
      if (!this.#erased.has(start)) {
        this.#flash.erase(start, SECTOR_BYTES);
        this.#erased.add(start);
      }
      this.#flash.program(block.offset, block.data);
      this.#seen.add(block.number);
    }
    return this.#seen.size === this.#count;
  }
}
