// One life of the chip, from a reset to the next: rp2040js with our boot ROM and parts, and the loop
// that runs it no faster than real time.
import { RP2040 } from 'rp2040js';

import { BootRom, ProgramFault } from './bootrom.js';
import { FlashPins, FlashSerial, RingOscillator } from './peripherals.js';
import { Pl011 } from './pl011.js';
import { UsbSerial } from './usb-serial.js';

/** @typedef {import('./flash-chip.js').FlashChip} FlashChip */

// Where a peripheral is on the bus: address >> 12 (data sheet 2.2, "Address Map")
const SSI = 0x18000;
const IO_QSPI = 0x40018;
const UART0 = 0x40034;
const WATCHDOG = 0x40058;
const ROSC = 0x40060;
const UART0_IRQ = 20; // data sheet 2.3.2

// Watchdog registers that a watchdog reset leaves alone (data sheet 4.7.6)
const WATCHDOG_SCRATCH = [0x0c, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28];

const SLICE_MS = 8; // of computing, before the lines to the outside are looked at
const BATCH = 20000; // instructions between two looks at the time
const AHEAD_MS = 2; // how far emulated time may run ahead of real time
const LONGEST_SLEEP_MS = 50;

/** @typedef {import('rp2040js').Peripheral & { onWatchdogTrigger: () => void, reason: number }} Watchdog */
/**
 * rp2040js' own clock, which it does not export.
 * @typedef {object} Clock
 * @property {number} nanos
 * @property {number} nanosToNextAlarm 0 if there is none
 * @property {(nanos: number) => void} tick
 */
/** @typedef {'watchdog' | 'usb-boot'} Ending why a program's life on the chip ended by itself */
/**
 * @typedef {object} MachineOptions
 * @property {FlashChip} flash
 * @property {() => number} randomBit
 * @property {number} flashTime
 * @property {Machine | null} before what a watchdog reset ended, whose scratch registers stay
 * @property {(ending: Ending) => void} onEnd called at most once
 */

export class Machine {
  serial;
  uart;
  /** @type {NodeJS.Timeout | NodeJS.Immediate | null} */
  #next = null;
  #sleeps = false;
  /** @type {Ending | null} */
  #ending = null;
  #stopped = false;
  #emulatedAt = 0; // ns: emulated and real time that are taken as the same moment
  #realAt = performance.now();
  #watchdog;
  #chip;
  #rom;
  #onEnd;

  /** @param {MachineOptions} options */
  constructor({ flash, randomBit, flashTime, before, onEnd }) {
    this.#onEnd = onEnd;
    const chip = (this.#chip = new RP2040());
    chip.logger = faultingLogger(chip);
    flash.select(false);
    this.#rom = new BootRom(chip, flash, { onUsbBoot: () => this.#end('usb-boot'), flashTime });
    flash.attach(chip.flash);
    this.uart = new Pl011(chip, 'UART0', UART0_IRQ);
    chip.peripherals[UART0] = this.uart;
    chip.peripherals[ROSC] = new RingOscillator(chip, randomBit);
    chip.peripherals[IO_QSPI] = new FlashPins(chip, flash);
    const usualSerial = chip.peripherals[SSI];
    if (!usualSerial) throw new Error('rp2040js has no SSI any more');
    chip.peripherals[SSI] = new FlashSerial(chip, usualSerial, flash);
    this.serial = new UsbSerial(chip.usbCtrl);
    this.#watchdog = /** @type {Watchdog} */ (chip.peripherals[WATCHDOG]);
    this.#watchdog.onWatchdogTrigger = () => this.#end('watchdog');
    if (before) this.#inherit(before.#watchdog);
  }

  /**
   * Run the program in the flash.
   * @returns {boolean} false if there is none
   */
  start() {
    if (!this.#rom.start()) return false;
    this.#soon();
    return true;
  }

  /** Stop for good; nothing is called back any more. */
  stop() {
    this.#stopped = true;
    this.#cancel();
  }

  /** Something arrived for the chip: go on, if it sleeps. */
  wake() {
    if (this.#sleeps && !this.#stopped) {
      this.#cancel();
      this.#soon();
    }
  }

  /** The chip's clock, for what is outside of it and takes emulated time. */
  get clock() {
    return this.#chip.clock;
  }

  /** @param {Watchdog} before what has ended another life by a reset */
  #inherit(before) {
    for (const offset of WATCHDOG_SCRATCH) {
      this.#watchdog.writeUint32(offset, before.readUint32(offset));
    }
    this.#watchdog.reason = before.reason;
  }

  /** @param {Ending} ending */
  #end(ending) {
    this.#ending ??= ending;
    this.#chip.core.waiting = true; // executes no more
  }

  #soon() {
    this.#sleeps = false;
    this.#next = setImmediate(() => this.#run());
  }

  #cancel() {
    if (this.#sleeps) clearTimeout(/** @type {NodeJS.Timeout} */ (this.#next));
    else if (this.#next) clearImmediate(/** @type {NodeJS.Immediate} */ (this.#next));
    this.#sleeps = false;
  }

  #run() {
    const until = performance.now() + SLICE_MS;
    do {
      if (!this.#batch()) return;
      if (this.#ending) {
        this.stop();
        this.#onEnd(this.#ending);
        return;
      }
    } while (performance.now() < until);
    this.#soon();
  }

  /** @returns {boolean} false if the chip sleeps now */
  #batch() {
    const core = this.#chip.core;
    const clock = /** @type {Clock} */ (/** @type {unknown} */ (this.#chip.clock));
    const rom = this.#rom;
    const cycleNanos = 1e9 / this.#chip.clkSys;
    for (let count = 0; count < BATCH; count++) {
      if (core.waiting) {
        if (this.#ending) return true;
        if (!this.#idle(clock)) return false;
        continue;
      }
      let cycles = core.executeInstruction();
      if (rom.cycles) {
        cycles += rom.cycles;
        rom.cycles = 0;
        if (this.#ending) return true;
      }
      clock.tick(cycles * cycleNanos);
    }
    return true;
  }

  /**
   * The program waits for an interrupt: go on to the next alarm, but not ahead of real time.
   * @param {Clock} clock
   * @returns {boolean} false if that has to be slept for
   */
  #idle(clock) {
    const nanos = clock.nanosToNextAlarm;
    const now = performance.now();
    let ahead = (clock.nanos - this.#emulatedAt) / 1e6 - (now - this.#realAt);
    if (ahead < 0) {
      // Computing took longer here than on the chip: that time is not made up for.
      this.#emulatedAt = clock.nanos;
      this.#realAt = now;
      ahead = 0;
    }
    if (nanos > 0 && ahead + nanos / 1e6 <= AHEAD_MS) {
      clock.tick(nanos);
      return true;
    }
    const sleepMs = nanos > 0 ? Math.min(ahead + nanos / 1e6, LONGEST_SLEEP_MS) : LONGEST_SLEEP_MS;
    this.#sleeps = true;
    this.#next = setTimeout(() => {
      this.#sleeps = false;
      this.#catchUp(clock, nanos);
      this.#run();
    }, sleepMs);
    return false;
  }

  /**
   * @param {Clock} clock
   * @param {number} nanos until the alarm that was slept for; 0 if there was none
   */
  #catchUp(clock, nanos) {
    const behind = (performance.now() - this.#realAt) * 1e6 - (clock.nanos - this.#emulatedAt);
    if (behind > 0) clock.tick(nanos > 0 ? Math.min(behind, nanos) : behind);
  }
}

/**
 * What rp2040js calls an error, such as an access that is not aligned, ends a program on the chip.
 * @param {RP2040} chip
 * @returns {import('rp2040js').Logger}
 */
function faultingLogger(chip) {
  const quiet = () => {};
  return {
    debug: quiet,
    info: quiet,
    warn: quiet, // registers that are not modelled
    error: (component, message) => {
      throw new ProgramFault(`${component}: ${message}`, chip.core);
    },
  };
}
