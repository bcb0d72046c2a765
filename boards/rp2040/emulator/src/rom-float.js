// The single-precision functions of the RP2040's boot ROM, version 2, in the order of its table
// (data sheet 2.8.3.2, "Fast Floating Point Library - Single Precision").

/** @typedef {(r: Uint32Array) => void} RomFunction called with the core's registers */

const bits = new DataView(new ArrayBuffer(8));

/** @param {number | undefined} word */
function toFloat(word) {
  bits.setUint32(0, word ?? 0);
  return bits.getFloat32(0);
}

/** @param {number} value */
function toWord(value) {
  bits.setFloat32(0, value);
  return bits.getUint32(0);
}

/** @param {Uint32Array} r */
const unsigned64 = (r) => (BigInt(r[1] ?? 0) << 32n) | BigInt(r[0] ?? 0);
/** @param {Uint32Array} r */
const signed64 = (r) => BigInt.asIntN(64, unsigned64(r));

/**
 * @param {Uint32Array} r
 * @param {bigint} value
 */
function return64(r, value) {
  const word = BigInt.asUintN(64, value);
  r[0] = Number(word & 0xffffffffn);
  r[1] = Number(word >> 32n);
}

/**
 * Round towards minus infinity, and hold at the ends of the range, as the ROM does.
 * @param {number} value
 * @param {bigint} least
 * @param {bigint} most
 */
function toInteger(value, least, most) {
  if (Number.isNaN(value)) return 0n;
  if (value >= Number(most)) return most;
  return value <= Number(least) ? least : BigInt(Math.floor(value));
}

const INT32 = /** @type {const} */ ([-(2n ** 31n), 2n ** 31n - 1n]);
const UINT32 = /** @type {const} */ ([0n, 2n ** 32n - 1n]);
const INT64 = /** @type {const} */ ([-(2n ** 63n), 2n ** 63n - 1n]);
const UINT64 = /** @type {const} */ ([0n, 2n ** 64n - 1n]);

/**
 * @param {(a: number, b: number) => number} operation
 * @returns {RomFunction}
 */
const binary = (operation) => (r) => {
  r[0] = toWord(operation(toFloat(r[0]), toFloat(r[1])));
};

/**
 * @param {(a: number) => number} operation
 * @returns {RomFunction}
 */
const unary = (operation) => (r) => {
  r[0] = toWord(operation(toFloat(r[0])));
};

/**
 * @param {readonly [bigint, bigint]} range
 * @param {boolean} fixed whether R1 says how many bits of it are a fraction
 * @returns {RomFunction}
 */
const to32 = (range, fixed) => (r) => {
  const scaled = toFloat(r[0]) * (fixed ? 2 ** ((r[1] ?? 0) | 0) : 1);
  r[0] = Number(BigInt.asUintN(32, toInteger(scaled, ...range)));
};

/**
 * @param {readonly [bigint, bigint]} range
 * @param {boolean} fixed
 * @returns {RomFunction}
 */
const to64 = (range, fixed) => (r) => {
  const scaled = toFloat(r[0]) * (fixed ? 2 ** ((r[1] ?? 0) | 0) : 1);
  return64(r, toInteger(scaled, ...range));
};

/**
 * @param {(r: Uint32Array) => number} value
 * @param {number | null} fraction the register that says how many bits are a fraction
 * @returns {RomFunction}
 */
const from = (value, fraction) => (r) => {
  r[0] = toWord(value(r) / (fraction === null ? 1 : 2 ** ((r[fraction] ?? 0) | 0)));
};

const int32 = (/** @type {Uint32Array} */ r) => (r[0] ?? 0) | 0;
const uint32 = (/** @type {Uint32Array} */ r) => r[0] ?? 0;

/** What stands at each place of the table; null is deprecated, or not modelled. */
export const FLOAT_TABLE = /** @type {readonly (RomFunction | null)[]} */ ([
  binary((a, b) => a + b),
  binary((a, b) => a - b),
  binary((a, b) => a * b),
  binary((a, b) => a / b),
  null,
  null,
  unary(Math.sqrt),
  to32(INT32, false),
  to32(INT32, true),
  to32(UINT32, false),
  to32(UINT32, true),
  from(int32, null),
  from(int32, 1),
  from(uint32, null),
  from(uint32, 1),
  unary(Math.cos),
  unary(Math.sin),
  unary(Math.tan),
  null,
  unary(Math.exp),
  unary(Math.log),
  null,
  binary(Math.atan2),
  from((r) => Number(signed64(r)), null),
  from((r) => Number(signed64(r)), 2),
  from((r) => Number(unsigned64(r)), null),
  from((r) => Number(unsigned64(r)), 2),
  to64(INT64, false),
  to64(INT64, true),
  to64(UINT64, false),
  to64(UINT64, true),
  (r) => {
    bits.setFloat64(0, toFloat(r[0]));
    r[1] = bits.getUint32(0);
    r[0] = bits.getUint32(4);
  },
]);
