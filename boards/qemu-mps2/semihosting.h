// Arm semihosting: what the program asks of the machine that emulates the board
// (https://github.com/ARM-software/abi-aa, semihosting.rst).
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stdint.h>
#include <string.h>

enum {
    SYS_OPEN = 0x01, SYS_CLOSE = 0x02, SYS_WRITE0 = 0x04, SYS_WRITE = 0x05, SYS_READ = 0x06,
    SYS_SEEK = 0x0A, SYS_FLEN = 0x0C, SYS_GET_CMDLINE = 0x15, SYS_EXIT_EXTENDED = 0x20,
};
enum { OPEN_READ = 1, OPEN_READ_WRITE = 3, OPEN_WRITE = 5 }; // "rb", "r+b", "wb"
#define STOPPED_APPLICATION_EXIT (0x20026)

static inline int semihosting(uint32_t operation, const void *argument) {
    register uint32_t r0 __asm__ ("r0") = operation;
    register const void *r1 __asm__ ("r1") = argument;
    __asm__ volatile ("bkpt 0xAB" : "+r" (r0) : "r" (r1) : "memory");
    return (int)r0;
}

// Returns a handle, or -1.
static inline int semihosting_open(const char *path, uint32_t mode) {
    uint32_t block[] = { (uint32_t)path, mode, strlen(path) };
    return semihosting(SYS_OPEN, block);
}

// SYS_READ and SYS_WRITE return how many octets were not done.
static inline int semihosting_transfer(uint32_t operation, int handle, const void *octets, uint32_t n) {
    uint32_t block[] = { (uint32_t)handle, (uint32_t)octets, n };
    return semihosting(operation, block);
}

static inline int semihosting_seek(int handle, uint32_t position) {
    uint32_t block[] = { (uint32_t)handle, position };
    return semihosting(SYS_SEEK, block);
}

static inline int semihosting_length(int handle) {
    return semihosting(SYS_FLEN, &handle);
}

#endif
