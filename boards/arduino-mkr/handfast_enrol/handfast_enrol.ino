// Handfast: enrols an Arduino MKR whose private key is made in its secure element and stays there.
// MIT license; Copyright (c) 2026 the Handfast authors
//
// Needs the library ArduinoECCX08 and a chip whose configuration is locked; it locks nothing.
// `handfast enrol --serial PORT` talks to it; docs/reference/mkr-dialogue.md is what they say.
//
// It takes the chip's key slots 1 and 2 and its data slots 8 to 14. Slot 0 is left to whoever has
// used it so far. An application reads the certificate as readCertificate() does, and gives it to
// BearSSLClient::setEccSlot with the slot that `state.active` names.

#include <ArduinoECCX08.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <utility/ECCX08CSR.h>

const int VERSION = 1;
const size_t LONGEST_LINE = 160;  // with its newline
const size_t CHUNK = 48;
const byte NONE = 0xFF;
const byte KEY_SLOTS[] = {1, 2};
// Written in turn: the newer whole one counts, so one that was cut short leaves the one before.
const int STATE_SLOTS[] = {9, 14};
const size_t STATE_SIZE = 32;

struct Room {
  int slot;
  size_t size;
};
const Room ROOMS[] = {{8, 416}, {10, 72}, {11, 72}, {12, 72}, {13, 72}};
const size_t LONGEST_CERTIFICATE = 704;

struct State {
  uint32_t count;
  byte active;   // the slot of the key that the certificate is for
  byte pending;  // the slot of the key that waits for one
  size_t length;
  uint32_t crc;
};

State state;
bool ready = false;  // the chip has answered, and what it keeps was read
byte certificate[LONGEST_CERTIFICATE];
byte incoming[LONGEST_CERTIFICATE];
String csr;

// Numbers and checksums

uint32_t crc32(const byte *data, size_t length) {
  uint32_t crc = 0xFFFFFFFFu;
  for (size_t i = 0; i < length; i++) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; bit++) {
      crc = (crc >> 1) ^ (crc & 1 ? 0xEDB88320u : 0);
    }
  }
  return ~crc;
}

void putBigEndian(byte *out, uint32_t value, int size) {
  while (size--) {
    out[size] = value & 0xFF;
    value >>= 8;
  }
}

uint32_t bigEndian(const byte *data, int size) {
  uint32_t value = 0;
  for (int i = 0; i < size; i++) {
    value = value << 8 | data[i];
  }
  return value;
}

int hexDigit(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  return -1;
}

// Reads all of a word as a number; false if it is none, or has more than `digits` digits.
bool readNumber(const char *word, int base, size_t digits, uint32_t *value) {
  size_t length = strlen(word);
  if (length == 0 || length > digits) return false;
  *value = 0;
  for (size_t i = 0; i < length; i++) {
    int digit = hexDigit(word[i]);
    if (digit < 0 || digit >= base) return false;
    *value = *value * base + digit;
  }
  return true;
}

// What the chip keeps

// Reads a state; one that is not whole counts nothing. False if the chip fails.
bool readState(int slot, State *found) {
  byte raw[STATE_SIZE];
  *found = {0, NONE, NONE, 0, 0};
  if (ECCX08.readSlot(slot, raw, STATE_SIZE) != 1) return false;
  if (memcmp(raw, "HFE1", 4) != 0 || bigEndian(raw + 28, 4) != crc32(raw, 28)) return true;
  size_t length = bigEndian(raw + 6, 2);
  if (length > LONGEST_CERTIFICATE) return true;
  *found = {bigEndian(raw + 12, 4), raw[4], raw[5], length, bigEndian(raw + 8, 4)};
  return true;
}

// The state changes here only when the chip has it.
bool writeState(byte active, byte pending, size_t length, uint32_t crc) {
  State next = {state.count + 1, active, pending, length, crc};
  byte raw[STATE_SIZE] = {'H', 'F', 'E', '1', active, pending};
  putBigEndian(raw + 6, length, 2);
  putBigEndian(raw + 8, crc, 4);
  putBigEndian(raw + 12, next.count, 4);
  putBigEndian(raw + 28, crc32(raw, 28), 4);
  if (ECCX08.writeSlot(STATE_SLOTS[next.count % 2], raw, STATE_SIZE) != 1) return false;
  state = next;
  return true;
}

bool readCertificate(byte *out) {
  for (const Room &room : ROOMS) {
    if (ECCX08.readSlot(room.slot, out, room.size) != 1) return false;
    out += room.size;
  }
  return true;
}

bool writeCertificate(const byte *der) {
  for (const Room &room : ROOMS) {
    if (ECCX08.writeSlot(room.slot, der, room.size) != 1) return false;
    der += room.size;
  }
  return true;
}

bool loadState() {
  State found[2];
  if (!readState(STATE_SLOTS[0], &found[0]) || !readState(STATE_SLOTS[1], &found[1])) return false;
  if (!readCertificate(certificate)) return false;
  state = found[found[1].count > found[0].count];
  // A certificate that was cut short while it was written is none; its key still waits for one.
  if (crc32(certificate, state.length) != state.crc) state.length = 0;
  return true;
}

// Nothing is kept of a chip that does not answer: it is asked again at the next request.
bool ensureChip() {
  if (!ready && ECCX08.begin()) ready = loadState();
  return ready;
}

// Answers

char id[5];

void answer(const char *format, ...) {
  char line[LONGEST_LINE + 1];
  int used = snprintf(line, sizeof(line), "HF%d %s ", VERSION, id);
  va_list values;
  va_start(values, format);
  used += vsnprintf(line + used, sizeof(line) - used, format, values);
  va_end(values);
  unsigned long crc = crc32((const byte *)line, used);
  used += snprintf(line + used, sizeof(line) - used, " *%08lx\n", crc);
  Serial.write((const byte *)line, used);
}

void refuse(const char *reason) { answer("ERR %s", reason); }

// Requests

const char *boardName() {
#if defined(ARDUINO_SAMD_MKR1000)
  return "mkr1000";
#elif defined(ARDUINO_SAMD_MKRWIFI1010)
  return "mkrwifi1010";
#elif defined(ARDUINO_SAMD_MKRGSM1400)
  return "mkrgsm1400";
#elif defined(ARDUINO_SAMD_MKRNB1500)
  return "mkrnb1500";
#elif defined(ARDUINO_SAMD_MKRWAN1300)
  return "mkrwan1300";
#elif defined(ARDUINO_SAMD_MKRWAN1310)
  return "mkrwan1310";
#else
  return "arduino";
#endif
}

void onHello() {
  String serial = ECCX08.serialNumber();
  const char *lock = ECCX08.locked() ? "locked" : "open";
  const char *key = state.pending == NONE ? "none" : "pending";
  unsigned long crc = crc32(certificate, state.length);
  answer("OK %s %s %s %s %u %08lx", boardName(), serial.c_str(), lock, key,
         (unsigned)state.length, crc);
}

// Makes a key if none waits for a certificate. It is the other of the two slots, so the key of the
// certificate that is there stays good until the next one is stored.
bool ensureKey() {
  if (state.pending != NONE) return true;
  byte slot = state.active == KEY_SLOTS[0] ? KEY_SLOTS[1] : KEY_SLOTS[0];
  byte publicKey[64];
  return ECCX08.generatePrivateKey(slot, publicKey) == 1 &&
         writeState(state.active, slot, state.length, crc32(certificate, state.length));
}

void onCsr() {
  if (!ECCX08.locked()) return refuse("unlocked");
  if (!ensureKey() || !ECCX08CSR.begin(state.pending, false)) return refuse("chip");
  ECCX08CSR.setCommonName(ECCX08.serialNumber());
  csr = ECCX08CSR.end();
  if (csr.length() == 0) return refuse("chip");
  unsigned long crc = crc32((const byte *)csr.c_str(), csr.length());
  answer("OK %u %08lx", (unsigned)csr.length(), crc);
}

void onRead(const char *what, const char *offsetWord) {
  uint32_t offset;
  bool isCsr = strcmp(what, "csr") == 0;
  if ((!isCsr && strcmp(what, "cert") != 0) || !readNumber(offsetWord, 10, 4, &offset)) {
    return refuse("unknown");
  }
  const byte *content = isCsr ? (const byte *)csr.c_str() : certificate;
  size_t length = isCsr ? csr.length() : state.length;
  if (length == 0) return refuse(isCsr ? "no-csr" : "no-cert");
  if (offset >= length) return refuse("range");
  char hex[2 * CHUNK + 1] = "";
  for (size_t i = 0; i < CHUNK && offset + i < length; i++) {
    snprintf(hex + 2 * i, 3, "%02x", content[offset + i]);
  }
  answer("OK %u %s", (unsigned)offset, hex);
}

void onWrite(const char *offsetWord, const char *hex) {
  uint32_t offset;
  size_t size = strlen(hex) / 2;
  if (!readNumber(offsetWord, 10, 4, &offset) || strlen(hex) % 2) return refuse("unknown");
  if (size > CHUNK || offset + size > LONGEST_CERTIFICATE) return refuse("range");
  for (size_t i = 0; i < size; i++) {
    int high = hexDigit(hex[2 * i]), low = hexDigit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return refuse("unknown");
    incoming[offset + i] = high << 4 | low;
  }
  answer("OK %u", (unsigned)(offset + size));
}

bool contains(const byte *data, size_t length, const byte *wanted, size_t size) {
  for (size_t at = 0; at + size <= length; at++) {
    if (memcmp(data + at, wanted, size) == 0) return true;
  }
  return false;
}

void onStore(const char *lengthWord, const char *crcWord) {
  uint32_t length, crc;
  if (!readNumber(lengthWord, 10, 4, &length) || !readNumber(crcWord, 16, 8, &crc)) {
    return refuse("unknown");
  }
  if (length == 0 || length > LONGEST_CERTIFICATE) return refuse("range");
  if (state.pending == NONE) {
    // The answer to the request that stored it may have got lost.
    if (length != state.length || crc != state.crc) return refuse("no-key");
    return answer("OK %u %08lx", (unsigned)length, (unsigned long)crc);
  }
  if (crc32(incoming, length) != crc) return refuse("checksum");
  byte publicKey[64];
  if (ECCX08.generatePublicKey(state.pending, publicKey) != 1) return refuse("chip");
  if (!contains(incoming, length, publicKey, sizeof(publicKey))) return refuse("other-key");
  if (!writeCertificate(incoming) || !writeState(state.pending, NONE, length, crc)) {
    return refuse("chip");
  }
  csr = "";
  ready = loadState();
  if (!ready || state.length != length) return refuse("chip");
  answer("OK %u %08lx", (unsigned)length, (unsigned long)crc);
}

// Lines

// Takes the checksum off a line; false if it is damaged.
bool isWhole(char *line) {
  size_t length = strlen(line);
  if (length > 0 && line[length - 1] == '\r') line[--length] = 0;
  if (length < 11 || line[length - 10] != ' ' || line[length - 9] != '*') return false;
  uint32_t crc;
  if (!readNumber(line + length - 8, 16, 8, &crc)) return false;
  line[length - 10] = 0;
  return crc32((const byte *)line, length - 10) == crc;
}

void handle(char *line) {
  if (!isWhole(line) || strncmp(line, "HF1 ", 4) != 0) return;
  char *words[6] = {};
  size_t count = 0;
  for (char *word = strtok(line + 4, " "); word; word = strtok(NULL, " ")) {
    if (count == 6) return;
    words[count++] = word;
  }
  uint32_t number;
  if (count < 2 || strlen(words[0]) != 4 || !readNumber(words[0], 16, 4, &number)) return;
  memcpy(id, words[0], sizeof(id));
  const char *verb = words[1];
  if (!ensureChip()) return refuse("chip");
  if (count == 2 && strcmp(verb, "HELLO") == 0) return onHello();
  if (count == 2 && strcmp(verb, "CSR") == 0) return onCsr();
  if (count == 4 && strcmp(verb, "READ") == 0) return onRead(words[2], words[3]);
  if (count == 4 && strcmp(verb, "WRITE") == 0) return onWrite(words[2], words[3]);
  if (count == 4 && strcmp(verb, "STORE") == 0) return onStore(words[2], words[3]);
  refuse("unknown");
}

char line[LONGEST_LINE];
size_t used = 0;
bool overlong = false;

void setup() { Serial.begin(115200); }

void loop() {
  while (Serial.available()) {
    char octet = Serial.read();
    if (octet != '\n') {
      overlong = overlong || used == LONGEST_LINE - 1;
      if (!overlong) line[used++] = octet;
      continue;
    }
    line[used] = 0;
    // A NUL would end the line early for everything that reads it.
    if (!overlong && strlen(line) == used) handle(line);
    used = 0;
    overlong = false;
  }
}
