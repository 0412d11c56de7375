// Time, buffers, sockets and readiness: the little that the tools need of the system.
#ifndef NET_H
#define NET_H
#include <stddef.h>
#include <stdint.h>

enum { READABLE = 1, WRITABLE = 2 };

struct buffer {
    char *data;
    size_t begin, end, room;  // what is in use is data[begin..end)
};

struct ready {
    void *tag;
    int what;  // READABLE | WRITABLE
};

uint64_t now_us(void);  // monotonic, the same clock in all processes of a machine
void fail(const char *what);  // says errno and ends the process
void *grown(void *memory, size_t wanted_bytes);

void put(struct buffer *buffer, const void *bytes, size_t length);
void put_text(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
void take(struct buffer *buffer, size_t length);
static inline size_t held(const struct buffer *buffer) { return buffer->end - buffer->begin; }
static inline char *start(const struct buffer *buffer) { return buffer->data + buffer->begin; }

int listen_on(int port);
int accept_one(int listener);    // -1: nobody waits
int connect_to(int port);        // may still be on its way; -1: refused at once
int connect_error(int fd);       // 0: it stands
int receive_all(int fd, struct buffer *into);   // -1: closed or broken; else bytes are in `into`
int send_all(int fd, struct buffer *from);      // -1: broken, 0: more to send, 1: all is sent
void allow_many_files(void);

void watch(int fd, void *tag, int what);        // a new one
void rewatch(int fd, void *tag, int what);
void unwatch(int fd);
int wait_ready(struct ready *ready, int max, int64_t timeout_us);

extern volatile int stopping;    // set by SIGTERM and SIGINT
extern volatile int asked;       // set by SIGUSR1: write what was seen, and forget it
void stop_by_signal(void);
#endif
