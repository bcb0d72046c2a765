// The chip's lines to the outside: its USB serial line for a TCP client, its UART for a socket.

/** @typedef {import('node:net').Server} Server */
/** @typedef {import('node:net').Socket} Socket */
/** @typedef {import('./machine.js').Machine} Machine */

const MOST_BACKLOG = 16384; // octets from a client that the program has not taken
const MOST_UNREAD = 65536; // octets on the UART that nobody has read: what comes then is lost

/**
 * The USB cable: one client at a time has the line, others wait for it to let go. The line comes
 * with the program's USB and goes with each reset, as a port on a host does.
 */
export class UsbLine {
  /** @type {Machine | null} */
  #machine = null;
  #opened = false;
  #absent = false;
  /** @type {Socket[]} */
  #clients = []; // the first one has the line
  /** @type {Socket | null} */
  #served = null;

  /** @param {Server} server gives the clients */
  constructor(server) {
    server.on('connection', (client) => this.#connected(client));
  }

  /** @param {Machine} machine just reset: the line is there once its program has started USB */
  plug(machine) {
    this.#machine = machine;
    this.#absent = false;
    machine.serial.onOpen = () => {
      this.#opened = true;
      this.#serve();
    };
    machine.serial.onData = (octets) => {
      if (this.#served && !this.#served.write(octets.slice())) machine.serial.pause(true);
    };
    machine.serial.onTaken = () => {
      if (machine.serial.backlog < MOST_BACKLOG) this.#served?.resume();
    };
  }

  /** @param {{ absent: boolean }} how `absent`: no line will come, clients are turned away */
  unplug({ absent }) {
    this.#machine = null;
    this.#opened = false;
    this.#absent = absent;
    this.#served?.destroy();
    if (absent) for (const client of this.#clients) client.destroy();
  }

  /** @param {Socket} client */
  #connected(client) {
    client.setNoDelay(true);
    client.pause();
    client.on('error', () => {}); // 'close' follows
    client.on('close', () => this.#closed(client));
    client.on('drain', () => this.#machine?.serial.pause(false));
    client.on('data', (octets) => {
      const machine = this.#machine;
      if (!machine) return;
      machine.serial.send(octets);
      if (machine.serial.backlog >= MOST_BACKLOG) client.pause();
      machine.wake();
    });
    if (this.#absent) client.destroy();
    this.#clients.push(client);
    this.#serve();
  }

  /** @param {Socket} client */
  #closed(client) {
    this.#clients = this.#clients.filter((other) => other !== client);
    if (this.#served === client) {
      this.#served = null;
      this.#machine?.serial.pause(false);
      this.#serve();
    }
  }

  #serve() {
    const first = this.#clients[0];
    if (!this.#opened || this.#served || !first || first.destroyed) return;
    this.#served = first;
    first.resume();
  }
}

/** The UART's cable. */
export class UartLine {
  /** @type {Machine | null} */
  #machine = null;
  /** @type {Buffer[]} */
  #arrived = [];
  /** @type {number[]} */
  #leaving = [];
  #at = 0; // in the first of them
  #moving = false;
  #socket;

  /** @param {Socket} socket */
  constructor(socket) {
    this.#socket = socket;
    socket.on('error', () => {});
    socket.on('data', (octets) => {
      if (!this.#machine) return; // lost: nobody listens to a chip that is being reset
      this.#arrived.push(octets);
      this.#move();
      this.#machine.wake();
    });
  }

  /** @param {Machine} machine */
  plug(machine) {
    this.#machine = machine;
    this.#arrived = [];
    this.#at = 0;
    this.#moving = false;
    const alarm = machine.clock.createAlarm(() => {
      this.#moving = false;
      this.#move();
    });
    this.#schedule = (nanos) => alarm.schedule(nanos);
    machine.uart.onRoom = () => this.#move();
    machine.uart.onOctet = (octet) => this.#send(octet);
  }

  unplug() {
    this.#machine = null;
  }

  /** @type {(nanos: number) => void} */
  #schedule = () => {};

  /** Hand the UART the next octet, if it has room, and no faster than its line is. */
  #move() {
    const uart = this.#machine?.uart;
    const first = this.#arrived[0];
    const octet = first?.[this.#at];
    if (!uart || !first || octet === undefined || this.#moving || !uart.room) return;
    this.#at += 1;
    if (this.#at === first.length) {
      this.#arrived.shift();
      this.#at = 0;
    }
    this.#moving = true;
    this.#schedule(uart.characterNanos);
    uart.receive(octet);
  }

  /** @param {number} octet */
  #send(octet) {
    if (this.#leaving.push(octet) > 1) return;
    setImmediate(() => {
      const octets = Buffer.from(this.#leaving);
      this.#leaving = [];
      if (this.#socket.writableLength < MOST_UNREAD) this.#socket.write(octets);
    });
  }
}
