// The receiver of callbacks: answers 204 at once and remembers which message each spoke of.
#include "record.h"
#include "server.h"
#include "tools.h"
#include <string.h>

enum { IDLE_US = 200000, UUID_CHARACTERS = 36 };

static const char TAKEN[] = "HTTP/1.1 204 No Content\r\n\r\n";

static uint64_t hash_of(const char *text, size_t length) {  // FNV-1a
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < length; i++) hash = (hash ^ (uint8_t)text[i]) * 1099511628211u;
    return hash;
}

// A record of a callback: id of the message, from_us the hash of its webhook-id, code the first letter of what
// happened ("message.delivered": d).
static void on_callback(struct connection *c, const struct message *m) {
    size_t length = 0;
    const char *webhook_id = header(m, "webhook-id:", &length), *id = after(m, "\"id\":\"");
    const char *event = after(m, "\"type\":\"message.");
    struct record *record = add_record();
    if (!webhook_id || !id || id + UUID_CHARACTERS > m->body + m->body_length || !read_uuid(id, record->id))
        counts[FAULTS]++;
    record->from_us = webhook_id ? hash_of(webhook_id, length) : 0;
    record->to_us = now_us();
    record->code = event ? (uint8_t)*event : 0;
    note_at(record->to_us);
    put(&c->out, TAKEN, sizeof TAKEN - 1);
}

static int64_t nothing_to_do(void) { return IDLE_US; }

int run_sink(void) {
    open_records(option("out", 0));
    serve((int)number("port", 0), on_callback, nothing_to_do);
    return 0;
}
