// A Pico on a bench: flash chip, one machine from reset to reset, BOOTSEL mode, and its cables.
import { BootselDrive } from './bootsel.js';
import { Machine } from './machine.js';
import { randomBits } from './random-bits.js';

/** @typedef {'running' | 'bootsel'} Mode */
/**
 * @typedef {object} BoardOptions
 * @property {import('./flash-chip.js').FlashChip} flash
 * @property {import('./random-bits.js').Entropy} entropy
 * @property {number} flashTime see BootRom
 * @property {string} bootselFolder where the drive appears
 * @property {import('./lines.js').UsbLine} usb
 * @property {import('./lines.js').UartLine} uart
 * @property {(what: string) => void} log
 */

export class Board {
  /** @type {Machine | null} */
  #machine = null;
  /** @type {BootselDrive | null} */
  #drive = null;
  #options;

  /** @param {BoardOptions} options */
  constructor(options) {
    this.#options = options;
  }

  /**
   * Reset the chip: the boot ROM runs the program in the flash.
   * @param {{ bootsel?: boolean, before?: Machine | null }} how `bootsel`: its button is held;
   *   `before`: what a watchdog reset has ended
   * @returns {Mode} without a program, as with the button held, the ROM shows its drive
   */
  reset({ bootsel = false, before = null } = {}) {
    this.stop();
    if (bootsel) return this.#showDrive();
    const { flash, entropy, flashTime, usb, uart } = this.#options;
    const machine = new Machine({
      flash,
      randomBit: randomBits(entropy),
      flashTime,
      before,
      onEnd: (ending) => this.#ended(machine, ending),
    });
    if (!machine.start()) return this.#showDrive();
    this.#machine = machine;
    usb.plug(machine);
    uart.plug(machine);
    return 'running';
  }

  /** Take the power off the chip: the lines go, and the drive if there is one. */
  stop() {
    this.#machine?.stop();
    this.#machine = null;
    this.#drive?.eject();
    this.#drive = null;
    this.#options.usb.unplug({ absent: false });
    this.#options.uart.unplug();
  }

  /** @returns {Mode} */
  #showDrive() {
    const { usb, flash, bootselFolder, log } = this.#options;
    usb.unplug({ absent: true });
    log('BOOTSEL: waiting for a UF2 file');
    this.#drive = new BootselDrive(bootselFolder, flash, () => {
      this.#drive = null;
      log(`BOOTSEL: took a UF2 file, ${this.reset()}`);
    });
    return 'bootsel';
  }

  /**
   * @param {Machine} machine
   * @param {import('./machine.js').Ending} ending
   */
  #ended(machine, ending) {
    this.#options.log(`reset by ${ending}`);
    this.reset({ bootsel: ending === 'usb-boot', before: machine });
  }
}
