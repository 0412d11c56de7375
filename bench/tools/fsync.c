// How often a second this disk makes a write durable: the floor under every commit.
#define _GNU_SOURCE
#include "net.h"
#include "tools.h"
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { PAGE_BYTES = 8192, FILE_PAGES = 2048 };  // as PostgreSQL: pages of 8 kB into a file of 16 MB that is there

static int make_durable(int fd) {
#ifdef __linux__
    return fdatasync(fd);
#else
    return fsync(fd);
#endif
}

int run_fsync(void) {
    static char page[PAGE_BYTES];
    const char *path = option("out", 0);
    double seconds = number("seconds", "2");
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0) fail(path);
    for (int i = 0; i < FILE_PAGES; i++)
        if (write(fd, page, PAGE_BYTES) != PAGE_BYTES) fail("write");
    make_durable(fd);
    uint64_t begun = now_us(), end = begun + (uint64_t)(seconds * 1e6), done = 0;
    while (now_us() < end && !stopping) {
        if (pwrite(fd, page, PAGE_BYTES, (off_t)(done % FILE_PAGES) * PAGE_BYTES) != PAGE_BYTES || make_durable(fd))
            fail("fdatasync");
        done++;
    }
    printf("%.1f\n", (double)done * 1e6 / (double)(now_us() - begun));
    close(fd);
    unlink(path);
    return 0;
}
