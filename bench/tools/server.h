// A keep-alive HTTP server for one thread: requests in, answers out, and a turn of the owner's own work.
#ifndef SERVER_H
#define SERVER_H
#include "http.h"

struct connection {
    int fd;          // -1: closed
    int wants_write;
    unsigned life;   // raised at each close: an answer kept for later sees that its asker is gone
    struct buffer in, out;
    void (*ready)(struct connection *, int what);
};

// Answers with put() on the connection's `out`, now or later (then followed by flush()).
typedef void (*handle_fn)(struct connection *, const struct message *);
// Called after each wait; returns how many µs the next wait may last at most.
typedef int64_t (*turn_fn)(void);

void serve(int port, handle_fn handle, turn_fn turn);
void flush(struct connection *);
void close_connection(struct connection *);
void handle_messages(struct connection *, handle_fn);  // reads, and handles each whole message
#endif
