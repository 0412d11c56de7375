#include "record.h"
#include "net.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { FIRST_ROOM = 1 << 16, PATH_MAX_CHARACTERS = 1024 };

volatile uint64_t *counts;
static struct record *records;
static size_t used, room;
static const char *path;

void open_records(const char *to) {
    char name[PATH_MAX_CHARACTERS];
    path = to;
    snprintf(name, sizeof name, "%s.counts", to);
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
    size_t bytes = COUNTS * sizeof(uint64_t);
    if (fd < 0 || ftruncate(fd, (off_t)bytes)) fail(name);
    void *shared = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED) fail("mmap");
    counts = shared;
    close(fd);
}

struct record *add_record(void) {
    if (used == room) records = grown(records, (room = room ? room * 2 : FIRST_ROOM) * sizeof *records);
    records[used] = (struct record){.code = 0};
    return &records[used++];
}

size_t records_added(void) { return used; }

struct record *record_at(size_t at) { return &records[at]; }

void note_at(uint64_t at_us) {
    if (!counts[COUNT]) counts[FIRST_US] = at_us;
    counts[LAST_US] = at_us;
    counts[COUNT]++;
}

void write_records(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    counts[CPU_US] = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000u +
                     (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    char name[PATH_MAX_CHARACTERS];  // it gets its name when it is whole: who waits for it sees all of it
    snprintf(name, sizeof name, "%s.new", path);
    FILE *file = fopen(name, "wb");
    if (!file || fwrite(records, sizeof *records, used, file) != used || fclose(file)) fail(name);
    if (rename(name, path)) fail(path);
}

void forget_records(void) {
    used = 0;
    for (int i = 0; i < COUNTS; i++) counts[i] = 0;
}
