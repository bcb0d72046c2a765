// The RP2040's UART, an Arm PL011 (RP2040 data sheet 4.2; Arm DDI 0183), with what rp2040js' own
// leaves out: a transmit queue at the line's speed, interrupts at the set levels, the receive
// timeout, and RTS/CTS.
import { BasePeripheral, FIFO } from 'rp2040js';

/** @typedef {import('rp2040js').RP2040} RP2040 */

const DR = 0x00;
const RSR = 0x04;
const FR = 0x18;
const IBRD = 0x24;
const FBRD = 0x28;
const LCR_H = 0x2c;
const CR = 0x30;
const IFLS = 0x34;
const IMSC = 0x38;
const RIS = 0x3c;
const MIS = 0x40;
const ICR = 0x44;
const DMACR = 0x48;
const IDENTIFICATION = 0xfe0;
const IDENTIFICATION_OCTETS = [0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

const FR_BUSY = 1 << 3;
const FR_RXFE = 1 << 4;
const FR_TXFF = 1 << 5;
const FR_RXFF = 1 << 6;
const FR_TXFE = 1 << 7;

const CR_UARTEN = 1 << 0;
const CR_TXE = 1 << 8;
const CR_RXE = 1 << 9;

const RX_INTERRUPT = 1 << 4;
const TX_INTERRUPT = 1 << 5;
const RT_INTERRUPT = 1 << 6;
const INTERRUPTS = 0x7ff;

const FIFO_CHARACTERS = 32;
const LEVELS = [4, 8, 16, 24, 28]; // IFLS: 1/8, 1/4, 1/2, 3/4, 7/8 of a queue
const TIMEOUT_BITS = 32;
const CHARACTER_BITS = 10;

export class Pl011 extends BasePeripheral {
  /** What leaves on the TX line. @type {(octet: number) => void} */
  onOctet = () => {};
  /** There is room for what waits for the RX line. @type {() => void} */
  onRoom = () => {};
  #received = new FIFO(FIFO_CHARACTERS);
  #sending = new FIFO(FIFO_CHARACTERS);
  #control = CR_TXE | CR_RXE;
  #lineControl = 0;
  #levels = 0x12;
  #mask = 0;
  #raw = 0;
  #integer = 0;
  #fraction = 0;
  #dma = 0;
  #busy = false;
  #chip;
  #irq;
  #timeout;
  #shifter;

  /**
   * @param {RP2040} chip
   * @param {string} name
   * @param {number} irq
   */
  constructor(chip, name, irq) {
    super(chip, name);
    this.#chip = chip;
    this.#irq = irq;
    this.#timeout = chip.clock.createAlarm(() => this.#receiveTimedOut());
    this.#shifter = chip.clock.createAlarm(() => this.#shiftOut());
  }

  /** How many octets `receive` takes now; with RTS a real peer would send no more either. */
  get room() {
    const listens = this.#control & CR_UARTEN && this.#control & CR_RXE;
    return listens ? FIFO_CHARACTERS - this.#received.itemCount : 0;
  }

  /** The time that a character takes on the line, in nanoseconds. */
  get characterNanos() {
    return this.#bitNanos * CHARACTER_BITS;
  }

  /** @param {number} octet comes in while there is `room` */
  receive(octet) {
    this.#received.push(octet);
    if (this.#received.itemCount >= this.#receiveLevel) this.#raw |= RX_INTERRUPT;
    this.#restartTimeout();
    this.#update();
  }

  /**
   * @override
   * @param {number} offset
   */
  readUint32(offset) {
    switch (offset) {
      case DR:
        return this.#takeReceived();
      case RSR:
        return 0;
      case FR:
        return this.#flags;
      case IBRD:
        return this.#integer;
      case FBRD:
        return this.#fraction;
      case LCR_H:
        return this.#lineControl;
      case CR:
        return this.#control;
      case IFLS:
        return this.#levels;
      case IMSC:
        return this.#mask;
      case RIS:
        return this.#raw;
      case MIS:
        return this.#raw & this.#mask;
      case DMACR:
        return this.#dma;
      default:
        return IDENTIFICATION_OCTETS[(offset - IDENTIFICATION) / 4] ?? super.readUint32(offset);
    }
  }

  /**
   * @override
   * @param {number} offset
   * @param {number} value
   */
  writeUint32(offset, value) {
    switch (offset) {
      case DR:
        this.#sending.push(value & 0xff);
        if (this.#sending.itemCount > this.#sendLevel) this.#raw &= ~TX_INTERRUPT;
        this.#startShifter();
        break;
      case RSR:
        break;
      case IBRD:
        this.#integer = value & 0xffff;
        break;
      case FBRD:
        this.#fraction = value & 0x3f;
        break;
      case LCR_H:
        this.#lineControl = value & 0xff;
        break;
      case CR:
        this.#control = value & 0xffff;
        this.#startShifter();
        this.onRoom();
        break;
      case IFLS:
        this.#levels = value & 0x3f;
        break;
      case IMSC:
        this.#mask = value & INTERRUPTS;
        break;
      case ICR:
        this.#raw &= ~this.rawWriteValue;
        this.#restartTimeout();
        break;
      case DMACR:
        this.#dma = value & 7; // no program that we run asks for DMA
        break;
      default:
        super.writeUint32(offset, value);
    }
    this.#update();
  }

  get #flags() {
    return (
      (this.#busy ? FR_BUSY : 0) |
      (this.#received.empty ? FR_RXFE : 0) |
      (this.#received.full ? FR_RXFF : 0) |
      (this.#sending.empty ? FR_TXFE : 0) |
      (this.#sending.full ? FR_TXFF : 0)
    );
  }

  get #bitNanos() {
    const divider = 16 * (this.#integer + this.#fraction / 64);
    return divider ? (divider * 1e9) / this.#chip.clkPeri : 0;
  }

  get #sendLevel() {
    return LEVELS[this.#levels & 7] ?? FIFO_CHARACTERS / 2;
  }

  get #receiveLevel() {
    return LEVELS[this.#levels >> 3] ?? FIFO_CHARACTERS / 2;
  }

  #update() {
    this.#chip.setInterrupt(this.#irq, (this.#raw & this.#mask) !== 0);
  }

  // Receiving

  #takeReceived() {
    const octet = this.#received.pull();
    if (this.#received.itemCount < this.#receiveLevel) this.#raw &= ~RX_INTERRUPT;
    if (this.#received.empty) this.#raw &= ~RT_INTERRUPT;
    this.#restartTimeout();
    this.#update();
    this.onRoom();
    return octet;
  }

  #restartTimeout() {
    if (this.#received.empty) this.#timeout.cancel();
    else this.#timeout.schedule(TIMEOUT_BITS * this.#bitNanos);
  }

  #receiveTimedOut() {
    if (this.#received.empty) return;
    this.#raw |= RT_INTERRUPT;
    this.#update();
  }

  // Sending

  #startShifter() {
    const sends = this.#control & CR_UARTEN && this.#control & CR_TXE;
    if (this.#busy || !sends || this.#sending.empty) return;
    this.#busy = true;
    this.#shifter.schedule(this.characterNanos);
  }

  #shiftOut() {
    this.#busy = false;
    const octet = this.#sending.pull();
    if (this.#sending.itemCount === this.#sendLevel) this.#raw |= TX_INTERRUPT;
    this.#startShifter();
    this.#update();
    this.onOctet(octet);
  }
}
