// The host's end of the chip's USB: it finds the serial line (CDC) that the program shows, opens it,
// and moves octets with flow control both ways, as a host's controller does by NAK.
import {
  createSetupPacket,
  DataDirection,
  DescriptorType,
  getDescriptorPacket,
  setDeviceAddressPacket,
  setDeviceConfigurationPacket,
  SetupRecipient,
  SetupType,
} from 'rp2040js';

/** @typedef {import('rp2040js').RPUSBController} RPUSBController */

const SET_CONTROL_LINE_STATE = 0x22; // USB CDC PSTN 1.2, 6.3.12
const DTR_AND_RTS = 3;
const CDC_DATA_CLASS = 0x0a;
const BULK = 2;
const ENDPOINT_IN = 0x80;
const CONFIGURATION_BYTES = 9;
const CONTROL_ENDPOINT = 0;

// Data sheet 4.1.2.5.1: a buffer control register of an IN endpoint, every 8 octets
const BUFFER_CONTROL = 0x80;
const BUFFER_CONTROL_END = 0x100;
const AVAILABLE = 1 << 10;

export class UsbSerial {
  /** What the program sends. @type {(octets: Uint8Array) => void} */
  onData = () => {};
  /** The line is there: the program answered to its opening. @type {() => void} */
  onOpen = () => {};
  /** The program took octets. @type {() => void} */
  onTaken = () => {};
  #endpoints = { in: -1, out: -1 };
  /** @type {number[]} */
  #descriptors = [];
  #length = 0;
  #opened = false;
  #paused = false;
  #room = 0;
  /** @type {Uint8Array[]} */
  #waiting = [];
  /** @type {(() => void)[]} */
  #held = [];
  #usb;

  /** @param {RPUSBController} usb */
  constructor(usb) {
    this.#usb = usb;
    usb.onUSBEnabled = () => usb.resetDevice();
    usb.onResetReceived = () => this.#begin();
    usb.onEndpointWrite = (endpoint, octets) => this.#received(endpoint, octets);
    usb.onEndpointRead = (endpoint, length) => {
      if (endpoint === this.#endpoints.out && endpoint > 0) {
        this.#room = length;
        this.#feed();
      }
    };
    const updated = usb.DPRAMUpdated.bind(usb);
    usb.DPRAMUpdated = (offset, value) => {
      const take = () => updated(offset, value);
      if (this.#paused && this.#isIn(offset) && value & AVAILABLE) this.#held.push(take);
      else take();
    };
  }

  /** How many octets wait for the program to take them. */
  get backlog() {
    return this.#waiting.reduce((sum, octets) => sum + octets.length, 0);
  }

  /** @param {Uint8Array} octets for the program; kept until it takes them */
  send(octets) {
    this.#waiting.push(octets);
    this.#feed();
  }

  /** @param {boolean} paused whether the program has to keep what it sends */
  pause(paused) {
    this.#paused = paused;
    if (paused) return;
    for (const take of this.#held.splice(0)) take();
  }

  /** @param {number} offset */
  #isIn(offset) {
    const register = BUFFER_CONTROL + 8 * this.#endpoints.in;
    return this.#opened && offset === register && offset < BUFFER_CONTROL_END;
  }

  #feed() {
    const first = this.#waiting[0];
    if (!this.#room || !first) return;
    const packet = first.subarray(0, this.#room);
    this.#room = 0;
    if (packet.length === first.length) this.#waiting.shift();
    else this.#waiting[0] = first.subarray(packet.length);
    this.#usb.endpointReadDone(this.#endpoints.out, packet);
    this.onTaken();
  }

  // Enumeration: address, configuration descriptor, configuration, control lines

  #begin() {
    this.#descriptors = [];
    this.#length = 0;
    this.#opened = false;
    this.#usb.sendSetupPacket(setDeviceAddressPacket(1));
  }

  /**
   * @param {number} endpoint
   * @param {Uint8Array} octets
   */
  #received(endpoint, octets) {
    if (endpoint === CONTROL_ENDPOINT) this.#control(octets);
    else if (endpoint === this.#endpoints.in) this.onData(octets);
  }

  /** @param {Uint8Array} octets */
  #control(octets) {
    if (this.#opened) return;
    if (!octets.length) {
      if (this.#endpoints.in > 0 && this.#descriptors.length) this.#open();
      else this.#ask(CONFIGURATION_BYTES);
    } else if (!this.#length) {
      this.#length = (octets[2] ?? 0) | ((octets[3] ?? 0) << 8);
      this.#ask(this.#length);
    } else {
      this.#descriptors.push(...octets);
      if (this.#descriptors.length < this.#length) return;
      this.#endpoints = serialEndpoints(this.#descriptors);
      this.#usb.sendSetupPacket(setDeviceConfigurationPacket(1));
    }
  }

  /** @param {number} length */
  #ask(length) {
    this.#usb.sendSetupPacket(getDescriptorPacket(DescriptorType.Configration, length));
  }

  #open() {
    this.#opened = true;
    this.#usb.sendSetupPacket(
      createSetupPacket({
        dataDirection: DataDirection.HostToDevice,
        type: SetupType.Class,
        recipient: SetupRecipient.Device,
        bRequest: SET_CONTROL_LINE_STATE,
        wValue: DTR_AND_RTS,
        wIndex: 0,
        wLength: 0,
      }),
    );
    this.onOpen();
  }
}

/**
 * Return the bulk endpoints of the first CDC data interface (USB 2.0, 9.6.5 and 9.6.6).
 * @param {ArrayLike<number>} descriptors
 */
export function serialEndpoints(descriptors) {
  const found = { in: -1, out: -1 };
  let inData = false;
  for (let at = 0; at + 2 <= descriptors.length; ) {
    const length = descriptors[at] ?? 0;
    const type = descriptors[at + 1];
    if (length < 2) break;
    if (type === DescriptorType.Interface) {
      inData = descriptors[at + 5] === CDC_DATA_CLASS && found.in < 0;
    } else if (type === DescriptorType.Endpoint && inData && ((descriptors[at + 3] ?? 0) & 3) === BULK) {
      const address = descriptors[at + 2] ?? 0;
      found[address & ENDPOINT_IN ? 'in' : 'out'] = address & 0xf;
    }
    at += length;
  }
  return found;
}
