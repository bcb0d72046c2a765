// ArduinoECCX08's utility/ECCX08CSR.h as far as the sketch uses it.
#pragma once

#include "../Arduino.h"

class ECCX08CSRModel {
 public:
  int begin(int slot, bool newPrivateKey = true);
  void setCommonName(const String &name) { name_ = name; }
  String end();

 private:
  int slot_ = -1;
  String name_;
};

extern ECCX08CSRModel ECCX08CSR;
