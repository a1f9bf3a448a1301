/* loadgen: puts the same work on every router under test and measures what it costs there.
 *
 *   sat      closed loop: each pair keeps a window of messages in flight; CPU per message and messages a second
 *   rate     open loop at a fixed rate: latency from the *scheduled* time, so that a stall is not left out
 *   idle     identified connections that do nothing: kB of the server per connection
 *   offline  every recipient is away: senders keep a window of unacknowledged messages; acknowledged messages a second
 *
 * Names of actors: PREFIX + s (sender), r (receiver) or x (never connected) + a number. Each sender addresses the receiver
 * of its number. A message is an object of exactly --size bytes: TO, then "payload" with a stamp and padding.
 * The CPU time of the server is read from /proc for --pid and all its children. Prints one JSON object.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "loadgen/options.h"
#include "loadgen/usage.h"
#include "loadgen/wire.h"

enum { DELIVERY = 1, ACKNOWLEDGEMENT = 2 }; /* what a message in flight waits for */
enum { CONNECTS_A_TURN = 64, DRAIN_US = 2000000, FILL_SECONDS = 120 };

struct slot {
    uint64_t sent_us;
    uint32_t number;
    int waits_for;
};

struct sender {
    struct connection connection;
    char *to;           /* head of its messages' body */
    uint32_t next;      /* number of the next message */
    uint32_t delivered; /* number of the last one delivered, plus 1 */
    struct slot slots[SLOTS];
};

struct latencies {
    uint32_t *us;
    size_t count, capacity;
};

struct counts {
    uint64_t sent, delivered, acknowledged, refused, errors, repeated, misordered, in_flight;
};

static struct sender *senders;
static struct counts counts;
static struct latencies deliveries, acknowledgements;
static uint64_t started_us;
static bool measuring, ask_ack, to_absent, repeat_at_once; /* repeat_at_once: what ends makes room for the next */
static uint64_t absent_next, absent_limit;                 /* absent_limit: so many messages to absent ones, then no more */
static char first_error[256];

/* --- messages out -------------------------------------------------------------------------------------------- */

static char *name_of(char role, long number) {
    char *name;
    if (asprintf(&name, "%s%c%ld", options.prefix, role, number) < 0) die("out of memory");
    return name;
}

static char *to_of(char role, long number) {
    char *name = name_of(role, number), *to = fill_in(options.to, name);
    free(name);
    return to;
}

static size_t absent_count(void) {
    size_t live = options.mode == OFFLINE ? 0 : 2 * (size_t)options.pairs;
    return (size_t)options.mailboxes > live ? (size_t)options.mailboxes - live : 0;
}

static size_t write_body(char *at, const char *to, uint32_t number, uint64_t time_us) {
    int length = sprintf(at, "{%s,\"payload\":{\"stamp\":[%u,%llu],\"pad\":\"", to, number, (unsigned long long)time_us);
    int padding = options.size - length - 3;
    if (padding < 0) die("--size %d is too small for the message's own fields (%d)", options.size, length + 3);
    memset(at + length, 'x', (size_t)padding);
    memcpy(at + length + padding, "\"}}", 3);
    return (size_t)(length + padding + 3);
}

static void send_message(struct sender *sender, uint64_t time_us) {
    static char packet[LARGEST_MESSAGE + 1024];
    uint32_t number = sender->next++;
    struct slot *slot = &sender->slots[number % SLOTS];
    if (slot->waits_for) counts.in_flight--; /* given up: 4,096 later ones were sent since */
    *slot = (struct slot){time_us, number, (to_absent ? 0 : DELIVERY) | (ask_ack ? ACKNOWLEDGEMENT : 0)};
    counts.in_flight++;
    counts.sent++;
    char *to = to_absent ? to_of('x', (long)(absent_next++ % absent_count())) : sender->to;
    size_t length = 0;
    if (options.dialect.socketio) {
        const char *namespace = options.dialect.namespace;
        length += (size_t)sprintf(packet, "42%s%s", namespace, *namespace ? "," : "");
        if (ask_ack) length += (size_t)sprintf(packet + length, "%u", number);
        length += (size_t)sprintf(packet + length, "[\"%s\",", options.event);
    }
    length += write_body(packet + length, to, number, time_us - started_us);
    if (options.dialect.socketio) packet[length++] = ']';
    if (to_absent) free(to);
    wire_send_text(&sender->connection, packet, length);
}

static void send_next(struct sender *sender) {
    if (!repeat_at_once || (to_absent && absent_next >= absent_limit)) return;
    send_message(sender, now_us());
}

/* --- messages in --------------------------------------------------------------------------------------------- */

static void note(struct latencies *latencies, uint64_t sent_us) {
    if (!measuring) return;
    if (latencies->count == latencies->capacity) {
        latencies->capacity = latencies->capacity ? latencies->capacity * 2 : 1 << 20;
        latencies->us = realloc(latencies->us, latencies->capacity * sizeof *latencies->us);
        if (!latencies->us) die("out of memory");
    }
    uint64_t us = now_us() - sent_us;
    latencies->us[latencies->count++] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

/* One of the things that a message waits for has come; false if nobody waits for it (any more). */
static bool ended(struct sender *sender, uint32_t number, int part, struct latencies *latencies) {
    struct slot *slot = &sender->slots[number % SLOTS];
    if (slot->number != number || !(slot->waits_for & part)) return false;
    note(latencies, slot->sent_us);
    slot->waits_for &= ~part;
    if (!slot->waits_for) {
        counts.in_flight--;
        send_next(sender);
    }
    return true;
}

static void got_error(const char *text, size_t length) {
    counts.errors++;
    if (!*first_error) snprintf(first_error, sizeof first_error, "%.*s", (int)length, text);
}

static void got_delivery(struct sender *sender, const char *stamp) {
    char *end;
    uint32_t number = (uint32_t)strtoul(stamp, &end, 10);
    if (*end != ',') die("a delivered message has lost its stamp");
    if (!ended(sender, number, DELIVERY, &deliveries)) {
        counts.repeated++;
        return;
    }
    counts.delivered++;
    if (number + 1 < sender->delivered) counts.misordered++;
    else sender->delivered = number + 1;
}

static void got_acknowledgement(struct sender *sender, const char *text, size_t length) {
    const char *list = memchr(text, '[', length);
    if (!list) die("an acknowledgement without its list: %.*s", (int)length, text);
    const char *digits = list;
    while (digits > text && digits[-1] >= '0' && digits[-1] <= '9') digits--;
    bool refused = memmem(list, length - (size_t)(list - text), "\"error\"", 7) != NULL;
    if (refused) {
        counts.refused++;
        got_error(text, length);
    } else {
        counts.acknowledged++;
    }
    uint32_t number = (uint32_t)strtoul(digits, NULL, 10);
    if (refused) ended(sender, number, DELIVERY, &acknowledgements); /* it will not come */
    ended(sender, number, ACKNOWLEDGEMENT, &acknowledgements);
}

static void got_text(struct connection *connection, const char *text, size_t length) {
    static const char stamp[] = "\"stamp\":[";
    if (options.mode == IDLE) return;
    struct sender *sender = &senders[connection->index];
    if (options.dialect.socketio && length > 2 && !memcmp(text, "43", 2)) {
        got_acknowledgement(sender, text, length);
        return;
    }
    const char *found = memmem(text, length, stamp, sizeof stamp - 1);
    if (found && connection->receiver) got_delivery(sender, found + sizeof stamp - 1);
    else if (memmem(text, length < 64 ? length : 64, "\"error\"", 7)) got_error(text, length);
}

/* --- phases -------------------------------------------------------------------------------------------------- */

static void connect_all(struct connection *connections, size_t stride, int count, char role) {
    for (int i = 0; i < count; i++) {
        struct connection *connection = (void *)((char *)connections + (size_t)i * stride);
        connection->index = i;
        connection->receiver = role == 'r';
        char *name = name_of(role, i);
        wire_connect(connection, name);
        free(name);
        if (i % CONNECTS_A_TURN == 0) wire_turn(0, -1); /* heartbeats of those already there */
    }
}

static void open_windows(void) {
    repeat_at_once = true;
    for (int w = 0; w < options.window; w++)
        for (int i = 0; i < options.pairs; i++) send_next(&senders[i]);
    wire_flush();
}

static void run_closed(double seconds) {
    for (uint64_t end = now_us() + (uint64_t)(seconds * 1e6); now_us() < end;) wire_turn(20, -1);
}

static void drain(void) {
    repeat_at_once = false;
    for (uint64_t end = now_us() + DRAIN_US; counts.in_flight && now_us() < end;) wire_turn(20, -1);
}

/* Makes mailboxes: one acknowledged message to each address that stays away. */
static void fill_mailboxes(void) {
    ask_ack = to_absent = true;
    absent_limit = absent_count();
    open_windows();
    uint64_t end = now_us() + FILL_SECONDS * 1000000ull;
    while (counts.acknowledged + counts.refused < absent_limit) {
        if (now_us() > end) die("%llu mailboxes in %d s", (unsigned long long)counts.acknowledged, FILL_SECONDS);
        wire_turn(20, -1);
    }
    repeat_at_once = to_absent = false;
    if (counts.refused) die("a mailbox was refused: %s", first_error);
}

static void run_at_rate(double seconds) {
    static int timer = -1, turn;
    static uint64_t due_ns;
    uint64_t gap_ns = (uint64_t)(1e9 / options.rate), end = now_us() + (uint64_t)(seconds * 1e6);
    if (timer < 0) {
        timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        due_ns = now_us() * 1000;
    }
    while (now_us() < end) {
        for (; due_ns <= now_us() * 1000; due_ns += gap_ns) {
            send_message(&senders[turn], due_ns / 1000);
            turn = (turn + 1) % options.pairs;
        }
        wire_flush();
        struct itimerspec next = {{0, 0}, {(time_t)(due_ns / 1000000000u), (long)(due_ns % 1000000000u)}};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &next, NULL);
        uint64_t expirations;
        if (wire_turn(20, timer) && read(timer, &expirations, sizeof expirations) < 0 && errno != EAGAIN) die("timer");
    }
}

/* --- results ------------------------------------------------------------------------------------------------- */

static int compare(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static void print_latencies(const char *name, struct latencies *latencies) {
    if (!latencies->count) return;
    qsort(latencies->us, latencies->count, sizeof *latencies->us, compare);
    printf(",\"%sp50_us\":%u,\"%sp99_us\":%u,\"%smax_us\":%u", name, latencies->us[latencies->count / 2], name,
           latencies->us[latencies->count * 99 / 100], name, latencies->us[latencies->count - 1]);
}

static void print_first_error(void) {
    printf(",\"first_error\":\"");
    for (const char *at = first_error; *at; at++)
        if ((unsigned char)*at >= ' ' && *at != '\\') putchar(*at == '"' ? '\'' : *at);
    printf("\"}\n");
}

static void measure_messages(void) {
    void (*run)(double) = options.mode == RATE ? run_at_rate : run_closed;
    to_absent = options.mode == OFFLINE;
    ask_ack = options.ack || to_absent;
    absent_limit = UINT64_MAX;
    if (options.mode != RATE) open_windows();
    run(options.warm_up);

    struct counts before = counts;
    double cpu = usage_cpu_seconds(options.pid), own_cpu = usage_own_cpu_seconds();
    uint64_t start = now_us();
    measuring = true;
    run(options.seconds);
    measuring = false;
    double seconds = (double)(now_us() - start) / 1e6;
    cpu = usage_cpu_seconds(options.pid) - cpu;
    own_cpu = usage_own_cpu_seconds() - own_cpu;
    uint64_t routed = to_absent ? counts.acknowledged - before.acknowledged : counts.delivered - before.delivered;
    drain();

    printf("{\"routed\":%llu,\"messages_per_second\":%.0f", (unsigned long long)routed, (double)routed / seconds);
    if (routed) printf(",\"cpu_us_per_message\":%.3f", cpu * 1e6 / (double)routed);
    printf(",\"server_cpu_percent\":%.1f,\"generator_cpu_percent\":%.1f", cpu / seconds * 100, own_cpu / seconds * 100);
    print_latencies("", &deliveries);
    print_latencies("ack_", &acknowledgements);
    printf(",\"sent\":%llu,\"refused\":%llu,\"errors\":%llu", (unsigned long long)counts.sent,
           (unsigned long long)counts.refused, (unsigned long long)counts.errors);
    printf(",\"repeated\":%llu,\"misordered\":%llu,\"unfinished\":%llu", (unsigned long long)counts.repeated,
           (unsigned long long)counts.misordered, (unsigned long long)counts.in_flight);
    print_first_error();
}

static void measure_idle(void) {
    struct connection *idle = calloc((size_t)options.connections, sizeof *idle);
    long before = usage_resident_kb(options.pid);
    double cpu = usage_cpu_seconds(options.pid);
    uint64_t start = now_us();
    connect_all(idle, sizeof *idle, options.connections, 's');
    double seconds = (double)(now_us() - start) / 1e6;
    cpu = usage_cpu_seconds(options.pid) - cpu;
    run_closed(options.seconds);
    long after = usage_resident_kb(options.pid);
    printf("{\"connections\":%d,\"resident_before_kb\":%ld,\"resident_after_kb\":%ld,\"kb_per_connection\":%.2f,"
           "\"connects_per_second\":%.0f,\"cpu_us_per_connect\":%.1f,\"errors\":0",
           options.connections, before, after, (double)(after - before) / options.connections,
           options.connections / seconds, cpu * 1e6 / options.connections);
    print_first_error();
}

static void measure_traffic(void) {
    senders = calloc((size_t)options.pairs, sizeof *senders);
    struct connection *receivers = calloc((size_t)options.pairs, sizeof *receivers);
    for (int i = 0; i < options.pairs; i++) senders[i].to = to_of('r', i);
    if (options.mode != OFFLINE) connect_all(receivers, sizeof *receivers, options.pairs, 'r');
    connect_all(&senders[0].connection, sizeof *senders, options.pairs, 's');
    if (absent_count() && options.mode != OFFLINE) fill_mailboxes();
    measure_messages();
}

int main(int count, char **arguments) {
    read_options(count, arguments);
    started_us = now_us();
    wire_start(&options.dialect, got_text);
    if (options.mode == IDLE) measure_idle();
    else measure_traffic();
    return 0;
}
