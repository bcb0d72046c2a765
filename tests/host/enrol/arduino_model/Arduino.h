// Of Arduino's core and language only what the enrolment sketch uses, for this machine: Serial is
// standard input and output. Written from the public reference of the Arduino language; a sketch
// that builds with this has not been built for a board.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <string>

typedef uint8_t byte;

class String {
 public:
  String(const char *text = "") : text_(text ? text : "") {}
  String(const std::string &text) : text_(text) {}
  const char *c_str() const { return text_.c_str(); }
  unsigned int length() const { return text_.size(); }

 private:
  std::string text_;
};

class SerialModel {
 public:
  void begin(unsigned long) {}
  int available();
  int read();
  size_t write(const byte *data, size_t length);
};

extern SerialModel Serial;

void setup();
void loop();
