// Runs a sketch as a process: Serial on standard input and output, the chip behind descriptor 3,
// which is asked one line and answers one line, "-" when it refuses.

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ArduinoECCX08.h"
#include "utility/ECCX08CSR.h"

SerialModel Serial;
ECCX08Model ECCX08;
ECCX08CSRModel ECCX08CSR;

static const int CHIP = 3;

static void writeAll(int handle, const char *data, size_t length) {
  while (length) {
    ssize_t done = write(handle, data, length);
    if (done <= 0) exit(1);
    data += done;
    length -= done;
  }
}

static std::string ask(const std::string &question) {
  std::string line = question + "\n", answer;
  writeAll(CHIP, line.data(), line.size());
  for (char octet; read(CHIP, &octet, 1) == 1; answer += octet) {
    if (octet == '\n') return answer;
  }
  exit(1);  // the board has lost its power
}

static std::string hex(const byte *data, int length) {
  std::string text;
  char digits[3];
  for (int i = 0; i < length; i++) {
    snprintf(digits, sizeof(digits), "%02x", data[i]);
    text += digits;
  }
  return text;
}

static int take(const std::string &answer, byte *out, int length) {
  if ((int)answer.size() != 2 * length) return 0;
  for (int i = 0; i < length; i++) out[i] = strtol(answer.substr(2 * i, 2).c_str(), NULL, 16);
  return 1;
}

int ECCX08Model::begin() { return ask("begin") == "1"; }
String ECCX08Model::serialNumber() { return ask("serial"); }
int ECCX08Model::locked() { return ask("locked") == "1"; }

int ECCX08Model::generatePrivateKey(int slot, byte publicKey[]) {
  return take(ask("generate " + std::to_string(slot)), publicKey, 64);
}

int ECCX08Model::generatePublicKey(int slot, byte publicKey[]) {
  return take(ask("public " + std::to_string(slot)), publicKey, 64);
}

int ECCX08Model::readSlot(int slot, byte data[], int length) {
  return take(ask("read " + std::to_string(slot) + " " + std::to_string(length)), data, length);
}

int ECCX08Model::writeSlot(int slot, const byte data[], int length) {
  return ask("write " + std::to_string(slot) + " " + hex(data, length)) == "1";
}

int ECCX08CSRModel::begin(int slot, bool newPrivateKey) {
  byte publicKey[64];
  slot_ = slot;
  return newPrivateKey ? ECCX08.generatePrivateKey(slot, publicKey)
                       : ECCX08.generatePublicKey(slot, publicKey);
}

String ECCX08CSRModel::end() {
  std::string answer = ask("csr " + std::to_string(slot_) + " " + name_.c_str());
  std::string pem(answer.size() / 2, ' ');
  if (answer == "-" || !take(answer, (byte *)&pem[0], pem.size())) return "";
  return pem;
}

int SerialModel::available() {
  struct pollfd input = {STDIN_FILENO, POLLIN, 0};
  return poll(&input, 1, 20) > 0 && input.revents & POLLIN;
}

int SerialModel::read() {
  byte octet;
  if (::read(STDIN_FILENO, &octet, 1) != 1) exit(1);
  return octet;
}

size_t SerialModel::write(const byte *data, size_t length) {
  writeAll(STDOUT_FILENO, (const char *)data, length);
  return length;
}

int main() {
  setup();
  for (;;) loop();
}
