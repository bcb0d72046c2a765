// ArduinoECCX08's public header as far as the sketch uses it; the chip is in the Python process at
// the other end of descriptor 3 (ecc_chip_model.py).
#pragma once

#include "Arduino.h"

class ECCX08Model {
 public:
  int begin();
  String serialNumber();
  int locked();
  int generatePrivateKey(int slot, byte publicKey[]);
  int generatePublicKey(int slot, byte publicKey[]);
  int readSlot(int slot, byte data[], int length);
  int writeSlot(int slot, const byte data[], int length);
};

extern ECCX08Model ECCX08;
