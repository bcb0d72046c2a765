// UF2 blocks as the RP2040's boot ROM takes them (RP2040 data sheet 2.8.4.2, "UF2 Format Details").
export const BLOCK_BYTES = 512;

const MAGIC_START = [0x0a324655, 0x9e5d5157];
const MAGIC_END = 0x0ab16f30;
const NOT_MAIN_FLASH = 0x0001;
const FAMILY_PRESENT = 0x2000;
const RP2040_FAMILY = 0xe48bff56;
const PAYLOAD_BYTES = 256;
const FLASH_START = 0x10000000;

/** @typedef {{ offset: number, data: Uint8Array, number: number, count: number }} FlashBlock */

/**
 * Return what a sector written to the drive asks for, or null if the boot ROM ignores it.
 * @param {Uint8Array} sector 512 octets
 * @param {number} flashBytes
 * @returns {FlashBlock | null}
 */
export function readBlock(sector, flashBytes) {
  const view = new DataView(sector.buffer, sector.byteOffset, BLOCK_BYTES);
  const word = (/** @type {number} */ index) => view.getUint32(4 * index, true);
  if (word(0) !== MAGIC_START[0] || word(1) !== MAGIC_START[1] || word(127) !== MAGIC_END) return null;
  const [flags, address, size, number, count, family] = [2, 3, 4, 5, 6, 7].map(word);
  if (flags === undefined || address === undefined || number === undefined || count === undefined) {
    return null;
  }
  if (flags & NOT_MAIN_FLASH || !(flags & FAMILY_PRESENT) || family !== RP2040_FAMILY) return null;
  const offset = address - FLASH_START;
  const fits = offset >= 0 && offset % PAYLOAD_BYTES === 0 && offset <= flashBytes - PAYLOAD_BYTES;
  if (size !== PAYLOAD_BYTES || !fits || number >= count) return null;
  return { offset, data: sector.slice(32, 32 + PAYLOAD_BYTES), number, count };
}
