// The part of a submit's JSON that a carrier needs (worker/carriers/simulated.py has the whole).
#ifndef SUBMIT_H
#define SUBMIT_H
#include <stdint.h>

enum { MSISDN_ROOM = 20 };

struct submit {
    uint8_t id[16];
    char to[MSISDN_ROOM];
    int part, attempt;
};

// Reads the next object of flat fields at or after `at`; returns what follows it, or 0 when there is none.
const char *next_submit(const char *at, const char *end, struct submit *submit);
#endif
