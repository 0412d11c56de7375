#include "server.h"
#include "record.h"
#include <stdlib.h>
#include <unistd.h>

enum { AT_ONCE = 256 };

static handle_fn handler;
static struct connection listener;
static struct connection **spare;  // closed ones, for the next that come in
static size_t spares, spare_room;

void close_connection(struct connection *c) {
    if (c->fd < 0) return;
    unwatch(c->fd);
    close(c->fd);
    c->fd = -1;
    c->life++;
    c->wants_write = 0;
    c->in.begin = c->in.end = c->out.begin = c->out.end = 0;
}

void flush(struct connection *c) {
    if (c->fd < 0) return;
    int sent = send_all(c->fd, &c->out);
    if (sent < 0) {
        close_connection(c);
        return;
    }
    if (c->wants_write != !sent) {
        c->wants_write = !sent;
        rewatch(c->fd, c, READABLE | (c->wants_write ? WRITABLE : 0));
    }
}

void handle_messages(struct connection *c, handle_fn handle) {
    struct message message;
    int is_open = receive_all(c->fd, &c->in) == 0, whole = 0;
    while (c->fd >= 0 && (whole = read_message(&c->in, &message)) == 1) {
        handle(c, &message);
        take(&c->in, message.length);
    }
    if (whole < 0) counts[FAULTS]++;
    if (!is_open || whole < 0) close_connection(c);
}

static void on_ready(struct connection *c, int what) {
    if (what & READABLE) handle_messages(c, handler);
    flush(c);
    if (c->fd >= 0) return;
    if (spares == spare_room) spare = grown(spare, (spare_room = spare_room ? spare_room * 2 : 64) * sizeof *spare);
    spare[spares++] = c;
}

static void on_listener(struct connection *c, int what) {
    (void)what;
    for (int fd; (fd = accept_one(c->fd)) >= 0;) {
        struct connection *next = spares ? spare[--spares] : calloc(1, sizeof *next);
        if (!next) fail("calloc");
        next->fd = fd;
        next->ready = on_ready;
        watch(fd, next, READABLE);
    }
}

void serve(int port, handle_fn handle, turn_fn turn) {
    struct ready ready[AT_ONCE];
    handler = handle;
    listener = (struct connection){.fd = listen_on(port), .ready = on_listener};
    watch(listener.fd, &listener, READABLE);
    while (!stopping) {
        int count = wait_ready(ready, AT_ONCE, turn());
        for (int i = 0; i < count; i++) {
            struct connection *c = ready[i].tag;
            if (c->fd >= 0) c->ready(c, ready[i].what);
        }
        if (asked) {
            asked = 0;
            write_records();
            forget_records();
        }
    }
    write_records();
}
