// What a tool saw: one record a message, written when it ends, and counts that others read meanwhile.
#ifndef RECORD_H
#define RECORD_H
#include <stddef.h>
#include <stdint.h>

// 40 bytes in the file OUT, in the machine's byte order; bench/recordings.py reads them.
struct record {
    uint8_t id[16];
    uint64_t from_us, to_us;
    uint32_t code, extra;
};

// The file OUT.counts, shared memory: eight numbers.
enum { COUNT, LAST_US, RECEIPTS_SENT, RECEIPTS_OWED, FAULTS, FIRST_US, CPU_US, SPARE, COUNTS };

void open_records(const char *path);
struct record *add_record(void);      // valid until the next one is added
size_t records_added(void);
struct record *record_at(size_t at);
void note_at(uint64_t at_us);      // one more, at this time
void write_records(void);
void forget_records(void);
extern volatile uint64_t *counts;
#endif
