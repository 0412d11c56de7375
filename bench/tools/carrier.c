// A carrier that speaks JSON over HTTP: takes submits one by one or in bulks, answers after `latency` seconds, and
// POSTs receipts in bodies of many. It keeps nothing, so it is for measuring, not for testing: see simulator/.
#include "record.h"
#include "server.h"
#include "submit.h"
#include "tools.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    LANES = 4,               // receipts in as many POSTs at a time
    RECEIPTS_PER_POST = 300, // under the 64 kB that Tollwire reads of one
    RETRY_US = 100000,
    IDLE_US = 100000,
    TIME_CHARACTERS = 32,
};

struct late { uint64_t due; struct connection *asker; unsigned life; char *bytes; size_t length; };
struct owed { uint64_t due; uint32_t reference; int part; char to[MSISDN_ROOM]; };
struct lane { struct connection connection; struct owed posted[RECEIPTS_PER_POST]; size_t count; uint64_t retry_at; };

static struct {
    int receipts_port;
    const char *receipts_path;
    double temporary, permanent;  // shares, in percent
    uint64_t latency_us, receipt_delay_us;
} plan;

static struct late *late;      // in the order of their time: each waits equally long
static size_t late_begin, late_end, late_room;
static struct owed *owed;      // likewise
static size_t owed_begin, owed_end, owed_room;
static struct lane lanes[LANES];
static uint32_t era, references;
static struct buffer reply;

static double draw(const uint8_t id[16]) {  // 0 to 100, the same at every attempt: the end of an id is random
    uint32_t bits;
    memcpy(&bits, id + 12, sizeof bits);
    return bits * 100.0 / 4294967296.0;
}

static int status_for(const struct submit *s) {
    double drawn = draw(s->id);
    if (drawn < plan.permanent) return 422;
    return drawn < plan.permanent + plan.temporary && s->attempt == 1 ? 503 : 200;
}

static void owe(const struct submit *s, uint32_t reference, uint64_t due) {
    if (!plan.receipts_port) return;
    if (owed_end == owed_room) {
        memmove(owed, owed + owed_begin, (owed_end - owed_begin) * sizeof *owed);
        owed_end -= owed_begin;
        owed_begin = 0;
        if (owed_end * 2 >= owed_room) owed = grown(owed, (owed_room = owed_room * 2 + 4096) * sizeof *owed);
    }
    struct owed *next = &owed[owed_end++];
    *next = (struct owed){.due = due, .reference = reference, .part = s->part};
    memcpy(next->to, s->to, sizeof next->to);
    counts[RECEIPTS_OWED]++;
}

static int take_submit(const struct submit *s, uint64_t t, int is_bulk) {
    int status = status_for(s);
    struct record *record = add_record();
    *record = (struct record){.from_us = t, .to_us = t + plan.latency_us, .code = (uint32_t)status,
                              .extra = (uint32_t)s->attempt};
    memcpy(record->id, s->id, sizeof record->id);
    note_at(t);
    put_text(&reply, is_bulk ? "%s{\"status\":%d," : "%s{", is_bulk && held(&reply) > 1 ? "," : "", status);
    if (status == 200) {
        owe(s, references, t + plan.latency_us + plan.receipt_delay_us);
        put_text(&reply, "\"reference\":\"%08x%07x\"}", era, references++);
    } else
        put_text(&reply, "\"error\":{\"code\":\"%s\"}}", status == 422 ? "unknown_number" : "try_again");
    return status;
}

static void answer(struct buffer *to, int status, size_t length, const char *body) {
    put_text(to, "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", status, length);
    put(to, body, length);
}

static void answer_later(struct connection *c, uint64_t due, int status) {
    struct buffer whole = {0};
    answer(&whole, status, held(&reply), start(&reply));
    if (late_end == late_room) {
        memmove(late, late + late_begin, (late_end - late_begin) * sizeof *late);
        late_end -= late_begin;
        late_begin = 0;
        if (late_end * 2 >= late_room) late = grown(late, (late_room = late_room * 2 + 256) * sizeof *late);
    }
    late[late_end++] = (struct late){due, c, c->life, whole.data, whole.end};
}

static void on_submit(struct connection *c, const struct message *m) {
    const char *at = m->body, *end = m->body + m->body_length;
    int is_bulk = at < end && *at == '[', status = 400;
    uint64_t t = now_us();
    struct submit submit;
    reply.begin = reply.end = 0;
    if (is_bulk) put(&reply, "[", 1);
    while ((at = next_submit(at, end, &submit))) status = take_submit(&submit, t, is_bulk);
    if (is_bulk) put(&reply, "]", 1);
    if (status == 400) counts[FAULTS]++;
    if (is_bulk && status != 400) status = 200;
    if (plan.latency_us) answer_later(c, t + plan.latency_us, status);
    else answer(&c->out, status, held(&reply), start(&reply));
}

static void answer_due(uint64_t t) {
    while (late_begin < late_end && late[late_begin].due <= t) {
        struct late *next = &late[late_begin++];
        if (next->asker->fd >= 0 && next->asker->life == next->life) {
            put(&next->asker->out, next->bytes, next->length);
            flush(next->asker);
        }
        free(next->bytes);
    }
}

static void on_receipts_answered(struct connection *c, const struct message *m) {
    struct lane *lane = (struct lane *)c;
    if (status_of(m) == 200) {
        counts[RECEIPTS_SENT] += lane->count;
        lane->count = 0;
        return;
    }
    counts[FAULTS]++;
    lane->retry_at = now_us() + RETRY_US;
}

static void on_lane(struct connection *c, int what) {
    if (what & READABLE) handle_messages(c, on_receipts_answered);
    flush(c);
    struct lane *lane = (struct lane *)c;
    if (c->fd < 0 && lane->count && !lane->retry_at) lane->retry_at = now_us() + RETRY_US;
}

static void post(struct lane *lane) {
    char now[TIME_CHARACTERS];
    time_t seconds = time(0);
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", gmtime(&seconds));
    reply.begin = reply.end = 0;
    for (size_t i = 0; i < lane->count; i++)
        put_text(&reply, "%s{\"reference\":\"%08x%07x\",\"state\":\"DELIVRD\",\"done_at\":\"%s\",\"to\":\"%s\",\"part\":%d}",
                 i ? "," : "{\"receipts\":[", era, lane->posted[i].reference, now, lane->posted[i].to, lane->posted[i].part);
    put(&reply, "]}", 2);
    lane->retry_at = 0;
    if (lane->connection.fd < 0) {
        if ((lane->connection.fd = connect_to(plan.receipts_port)) < 0) { lane->retry_at = now_us() + RETRY_US; return; }
        watch(lane->connection.fd, lane, READABLE);
    }
    put_text(&lane->connection.out, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
             plan.receipts_path, held(&reply));
    put(&lane->connection.out, start(&reply), held(&reply));
    flush(&lane->connection);
}

static void post_due(uint64_t t) {
    for (int i = 0; i < LANES; i++) {
        struct lane *lane = &lanes[i];
        if (lane->count) {
            if (lane->retry_at && lane->retry_at <= t) post(lane);
            continue;
        }
        while (owed_begin < owed_end && owed[owed_begin].due <= t && lane->count < RECEIPTS_PER_POST)
            lane->posted[lane->count++] = owed[owed_begin++];
        if (lane->count) post(lane);
    }
}

static int64_t turn(void) {
    uint64_t t = now_us(), next = t + IDLE_US;
    int has_free_lane = 0;
    answer_due(t);
    post_due(t);
    if (late_begin < late_end && late[late_begin].due < next) next = late[late_begin].due;
    for (int i = 0; i < LANES; i++) {
        has_free_lane |= !lanes[i].count;
        if (lanes[i].retry_at && lanes[i].retry_at < next) next = lanes[i].retry_at;
    }
    if (has_free_lane && owed_begin < owed_end && owed[owed_begin].due < next) next = owed[owed_begin].due;
    return next > t ? (int64_t)(next - t) : 0;
}

int run_carrier(void) {
    plan.receipts_port = (int)number("receipts_port", "0");
    plan.receipts_path = option("receipts_path", "/receipts/bench");
    plan.temporary = number("temporary", "0");
    plan.permanent = number("permanent", "0");
    plan.latency_us = (uint64_t)(number("latency", "0") * 1e6);
    plan.receipt_delay_us = (uint64_t)(number("receipt_delay", "0") * 1e6);
    era = (uint32_t)time(0);
    for (int i = 0; i < LANES; i++) lanes[i].connection = (struct connection){.fd = -1, .ready = on_lane};
    open_records(option("out", 0));
    serve((int)number("port", 0), on_submit, turn);
    return 0;
}
