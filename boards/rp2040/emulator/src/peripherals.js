// Parts of the chip that rp2040js leaves out, or whose answers make a board what it is: the ring
// oscillator's random bit, and the serial interface to the flash chip with its unique id.
import { BasePeripheral } from 'rp2040js';

/** @typedef {import('rp2040js').RP2040} RP2040 */
/** @typedef {import('rp2040js').Peripheral} Peripheral */
/** @typedef {import('./flash-chip.js').FlashChip} FlashChip */

/** Registers that keep what is written to them, and do nothing. */
export class Registers extends BasePeripheral {
  /** @type {Map<number, number>} */
  #values = new Map();

  /**
   * @override
   * @param {number} offset
   */
  readUint32(offset) {
    return this.#values.get(offset) ?? 0;
  }

  /**
   * @override
   * @param {number} offset
   * @param {number} value
   */
  writeUint32(offset, value) {
    this.#values.set(offset, value >>> 0);
  }
}

// Data sheet 2.17.8, "List of Registers" of the ring oscillator
const ROSC_STATUS = 0x18;
const ROSC_RANDOMBIT = 0x1c;
const ROSC_STABLE_AND_ENABLED = (1 << 31) | (1 << 12);

/** The ring oscillator: its random bit comes from `randomBit`. */
export class RingOscillator extends Registers {
  #randomBit;

  /**
   * @param {RP2040} chip
   * @param {() => number} randomBit
   */
  constructor(chip, randomBit) {
    super(chip, 'ROSC');
    this.#randomBit = randomBit;
  }

  /**
   * @override
   * @param {number} offset
   */
  readUint32(offset) {
    if (offset === ROSC_RANDOMBIT) return this.#randomBit();
    return offset === ROSC_STATUS ? ROSC_STABLE_AND_ENABLED >>> 0 : super.readUint32(offset);
  }
}

// Data sheet 2.19.6.2, IO_QSPI: GPIO_QSPI_SS_CTRL with its OUTOVER field
const SS_CTRL = 0x0c;
const OUTOVER_SHIFT = 8;
const OUTOVER_LOW = 2;

/** The pins of the flash chip: a program that drives chip select low speaks to it directly. */
export class FlashPins extends Registers {
  #flash;

  /**
   * @param {RP2040} chip
   * @param {FlashChip} flash
   */
  constructor(chip, flash) {
    super(chip, 'IO_QSPI');
    this.#flash = flash;
  }

  /**
   * @override
   * @param {number} offset
   * @param {number} value
   */
  writeUint32(offset, value) {
    super.writeUint32(offset, value);
    if (offset === SS_CTRL) this.#flash.select(((value >> OUTOVER_SHIFT) & 3) === OUTOVER_LOW);
  }
}

// Data sheet 4.10.13, DR0 and SR of the SSI
const SSI_SR = 0x28;
const SSI_DR0 = 0x60;
const SR_TFNF = 1 << 1;
const SR_TFE = 1 << 2;
const SR_RFNE = 1 << 3;

/** The serial interface to the flash: rp2040js' own, but with the chip behind it while selected. */
export class FlashSerial extends BasePeripheral {
  /** @type {number[]} */
  #answers = [];
  #flash;
  #usual;

  /**
   * @param {RP2040} chip
   * @param {Peripheral} usual
   * @param {FlashChip} flash
   */
  constructor(chip, usual, flash) {
    super(chip, 'SSI');
    this.#usual = usual;
    this.#flash = flash;
  }

  /**
   * @override
   * @param {number} offset
   */
  readUint32(offset) {
    if (!this.#flash.selected) return this.#usual.readUint32(offset);
    if (offset === SSI_DR0) return this.#answers.shift() ?? 0;
    if (offset === SSI_SR) return SR_TFNF | SR_TFE | (this.#answers.length ? SR_RFNE : 0);
    return this.#usual.readUint32(offset);
  }

  /**
   * @override
   * @param {number} offset
   * @param {number} value
   */
  writeUint32(offset, value) {
    if (this.#flash.selected && offset === SSI_DR0) {
      this.#answers.push(this.#flash.transfer(value & 0xff));
    } else {
      this.#usual.writeUint32(offset, value);
    }
  }
}
