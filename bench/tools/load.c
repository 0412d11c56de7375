// The load generator. Closed model: each connection sends its next request when the last was answered (after
// `think` seconds). Open model (`rate`): request i is due at begin + i / rate, whatever became of the others, and
// its time counts from then: a server that stalls cannot hide it by slowing the generator down.
#include "http.h"
#include "record.h"
#include "tools.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { AT_ONCE = 512, RETRY_US = 50000, IDLE_US = 100000, UUID_CHARACTERS = 36, EXIT_TOO_LONG = 3 };

struct user {  // one connection
    int fd, is_connected, is_asking;
    size_t record;
    uint64_t ready_at;
    struct buffer in, out;
};

struct lines { char **line; size_t *length, count; };

static struct {
    int port, connections;
    const char *path, *prefix;
    double rate, ramp;
    uint64_t count, think_us, seconds_us, limit_us;
    struct lines keys, bodies;
} plan;

static struct user *users;
static struct user **idle;          // a ring, the longest idle first
static size_t idle_begin, idle_count;
static uint64_t begun, issued, answered;
static int opened;

static struct lines read_lines(const char *path) {
    struct lines lines = {0};
    int fd = open(path, O_RDONLY);
    off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (size < 0) fail(path);
    char *text = grown(0, (size_t)size + 1), *line;
    if (pread(fd, text, (size_t)size, 0) != size) fail(path);
    text[size] = 0;
    close(fd);
    for (line = strtok(text, "\n"); line; line = strtok(0, "\n")) {
        lines.line = grown(lines.line, (lines.count + 1) * sizeof *lines.line);
        lines.length = grown(lines.length, (lines.count + 1) * sizeof *lines.length);
        lines.line[lines.count] = line;
        lines.length[lines.count++] = strlen(line);
    }
    if (!lines.count) { fprintf(stderr, "%s is empty\n", path); exit(2); }
    return lines;
}

static void read_plan(void) {
    plan.port = (int)number("port", 0);
    plan.path = option("path", "/v1/messages");
    plan.prefix = option("prefix", "bench");
    plan.connections = (int)number("connections", "1");
    plan.rate = number("rate", "0");
    plan.ramp = number("ramp", "0");
    plan.count = (uint64_t)number("count", "1e15");
    plan.think_us = (uint64_t)(number("think", "0") * 1e6);
    plan.seconds_us = (uint64_t)(number("seconds", "0") * 1e6);
    plan.limit_us = (uint64_t)(number("limit", "300") * 1e6);
    plan.keys = read_lines(option("keys", 0));
    plan.bodies = read_lines(option("bodies", 0));
}

static void rest(struct user *u, uint64_t ready_at) {
    u->ready_at = ready_at;
    idle[(idle_begin + idle_count++) % (size_t)plan.connections] = u;
}

static void dial(struct user *u, uint64_t t) {
    u->fd = connect_to(plan.port);
    u->is_connected = u->is_asking = 0;
    u->in.begin = u->in.end = u->out.begin = u->out.end = 0;
    if (u->fd >= 0) watch(u->fd, u, READABLE | WRITABLE);
    else u->ready_at = t + RETRY_US;
}

static void ended(struct user *u, uint32_t code, uint32_t extra, uint64_t t) {
    struct record *record = record_at(u->record);
    record->to_us = t;
    record->code = code;
    record->extra = extra;
    u->is_asking = 0;
    answered++;
    note_at(t);
}

// What was asked stays without an answer (code 0) and is not asked again: nobody knows what came of it.
static void broken(struct user *u) {
    uint64_t t = now_us();
    if (u->is_asking) ended(u, 0, 0, t);
    counts[FAULTS]++;
    unwatch(u->fd);
    close(u->fd);
    u->fd = -1;
    u->is_connected = 0;
    u->ready_at = t + RETRY_US;
}

static void send_more(struct user *u) {
    int sent = send_all(u->fd, &u->out);
    if (sent < 0) broken(u);
    else rewatch(u->fd, u, READABLE | (sent ? 0 : WRITABLE));
}

static void ask(struct user *u, uint64_t from_us) {
    size_t body = issued % plan.bodies.count, key = issued % plan.keys.count;
    u->record = records_added();
    add_record()->from_us = from_us;
    put_text(&u->out,
             "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-API-Key: %s\r\nIdempotency-Key: %s-%08llu\r\n"
             "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
             plan.path, plan.port, plan.keys.line[key], plan.prefix, (unsigned long long)issued,
             plan.bodies.length[body]);
    put(&u->out, plan.bodies.line[body], plan.bodies.length[body]);
    u->is_asking = 1;
    issued++;
    if (send_all(u->fd, &u->out) != 1) send_more(u);
}

static void answer(struct user *u, const struct message *m) {
    size_t length;
    uint32_t status = (uint32_t)status_of(m), extra = header(m, "retry-after:", &length) != 0;
    const char *id = after(m, "\"id\":\""), *accepted = after(m, "\"accepted\":");
    uint64_t t = now_us();
    if (accepted) extra = (uint32_t)atoi(accepted);
    if (status / 100 == 2 && id && id + UUID_CHARACTERS < m->body + m->body_length)
        read_uuid(id, record_at(u->record)->id);
    ended(u, status, extra, t);
    rest(u, t + plan.think_us);
}

static void on_ready(struct user *u, int what) {
    struct message message;
    if (!u->is_connected) {
        if (connect_error(u->fd)) { broken(u); return; }
        if (!(what & WRITABLE)) return;
        u->is_connected = 1;
        rewatch(u->fd, u, READABLE);
        rest(u, now_us());
        return;
    }
    if (what & WRITABLE && held(&u->out)) send_more(u);
    if (u->fd < 0 || !(what & READABLE)) return;
    int is_open = receive_all(u->fd, &u->in) == 0, whole = read_message(&u->in, &message);
    if (whole == 1 && u->is_asking) {
        answer(u, &message);
        take(&u->in, message.length);
    }
    if (is_open && whole >= 0) return;
    for (size_t i = 0; i < idle_count; i++) {  // it may rest already
        size_t at = (idle_begin + i) % (size_t)plan.connections, last = (idle_begin + idle_count - 1) % (size_t)plan.connections;
        if (idle[at] == u) { idle[at] = idle[last]; idle_count--; break; }
    }
    broken(u);
}

static int is_over(uint64_t t) {
    return issued >= plan.count || (plan.seconds_us && t >= begun + plan.seconds_us) || stopping;
}

static uint64_t due_at(uint64_t request) { return begun + (uint64_t)((double)request * 1e6 / plan.rate); }

static void open_users(uint64_t t) {
    while (opened < plan.connections && (plan.ramp <= 0 || (double)opened <= plan.ramp * (double)(t - begun) / 1e6))
        dial(&users[opened++], t);
    if (counts[FAULTS])  // rare: so the search costs nothing
        for (int i = 0; i < opened; i++)
            if (users[i].fd < 0 && t >= users[i].ready_at) dial(&users[i], t);
}

static int64_t ask_all(uint64_t t) {
    while (idle_count && !is_over(t)) {
        struct user *u = idle[idle_begin];
        if (u->ready_at > t) return (int64_t)(u->ready_at - t);
        if (plan.rate > 0 && due_at(issued) > t) return (int64_t)(due_at(issued) - t);
        idle_begin = (idle_begin + 1) % (size_t)plan.connections;
        idle_count--;
        ask(u, plan.rate > 0 ? due_at(issued) : t);
        if (plan.rate <= 0) t = now_us();
    }
    return opened < plan.connections ? 1000 : IDLE_US;
}

// Everybody is connected before the first request of an open model is due, so that no handshake counts.
static void gather_users(void) {
    struct ready ready[AT_ONCE];
    while (plan.rate > 0 && plan.ramp <= 0 && (int)idle_count < plan.connections && !stopping) {
        open_users(now_us());
        int count = wait_ready(ready, AT_ONCE, RETRY_US);
        for (int i = 0; i < count; i++) on_ready(ready[i].tag, ready[i].what);
        if (now_us() > begun + plan.limit_us) break;
    }
    begun = now_us();
}

int run_load(void) {
    struct ready ready[AT_ONCE];
    read_plan();
    open_records(option("out", 0));
    users = grown(0, (size_t)plan.connections * sizeof *users);
    memset(users, 0, (size_t)plan.connections * sizeof *users);
    idle = grown(0, (size_t)plan.connections * sizeof *idle);
    begun = now_us();
    gather_users();
    uint64_t t = begun;
    while (!(is_over(t) && answered == issued) && t < begun + plan.limit_us) {
        open_users(t);
        int count = wait_ready(ready, AT_ONCE, ask_all(t));
        for (int i = 0; i < count; i++) {
            struct user *u = ready[i].tag;
            if (u->fd >= 0) on_ready(u, ready[i].what);
        }
        t = now_us();
    }
    write_records();
    if (answered == issued) return 0;
    fprintf(stderr, "%llu of %llu requests were not answered in time\n", (unsigned long long)(issued - answered),
            (unsigned long long)issued);
    return EXIT_TOO_LONG;
}
