#define _GNU_SOURCE
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options options = {
    .pairs = 50,
    .window = 16,
    .connections = 5000,
    .size = 128,
    .rate = 2000,
    .seconds = 4,
    .warm_up = 1,
    .prefix = "ui/",
    .event = "echo",
    .to = "\"ids\":{\"default\":\"%s\"}",
    .dialect = {.socketio = true, .host = "127.0.0.1", .path = "/socket.io/?EIO=4&transport=websocket", .namespace = "/ui",
                .identify = "{\"actor\":\"%s\"}", .await = "\"hello\""},
};

static const struct option known[] = {
    {"port", 1, 0, 'p'},       {"pid", 1, 0, 'P'},        {"pairs", 1, 0, 'n'},      {"window", 1, 0, 'w'},
    {"connections", 1, 0, 'c'}, {"size", 1, 0, 's'},      {"mailboxes", 1, 0, 'm'},  {"rate", 1, 0, 'r'},
    {"seconds", 1, 0, 't'},    {"warm-up", 1, 0, 'u'},    {"ack", 0, 0, 'a'},        {"pong-delay", 1, 0, 'd'},
    {"bare", 0, 0, 'b'},       {"host", 1, 0, 'H'},       {"path", 1, 0, 'R'},       {"subprotocol", 1, 0, 'S'},
    {"namespace", 1, 0, 'N'},  {"identify", 1, 0, 'I'},   {"await", 1, 0, 'A'},      {"prefix", 1, 0, 'x'},
    {"event", 1, 0, 'e'},      {"to", 1, 0, 'T'},         {0},
};

static const char usage[] =
    "usage: loadgen sat|rate|idle|offline --port PORT --pid PID [options]\n"
    "  --pairs 50 --window 16     pairs of sender and receiver, messages in flight per pair\n"
    "  --rate 2000                messages a second in all (mode rate)\n"
    "  --connections 5000         mode idle\n"
    "  --mailboxes N              sat, rate: in all N mailboxes exist, those of absent actors hold a message each;\n"
    "                             offline: the addresses that senders take in turn\n"
    "  --seconds 4 --warm-up 1 --size 128\n"
    "  --ack                      senders ask for a Socket.IO acknowledgement; a message is in flight until it is\n"
    "                             delivered and acknowledged\n"
    "  --pong-delay MS            answer pings so much later (default: at once)\n"
    "the server's dialect (%s stands for the actor's name):\n"
    "  --namespace /ui --identify '{\"actor\":\"%s\"}' --await '\"hello\"' --event echo\n"
    "  --to '\"ids\":{\"default\":\"%s\"}' --prefix ui/ --path '/socket.io/?EIO=4&transport=websocket'\n"
    "  --bare                     bare WebSocket: --path, --subprotocol, --identify (first frame), --await, --to\n";

static void set_option(int option, const char *value) {
    switch (option) {
    case 'p': options.dialect.port = atoi(value); break;
    case 'P': options.pid = atoi(value); break;
    case 'n': options.pairs = atoi(value); break;
    case 'w': options.window = atoi(value); break;
    case 'c': options.connections = atoi(value); break;
    case 's': options.size = atoi(value); break;
    case 'm': options.mailboxes = atoi(value); break;
    case 'r': options.rate = atof(value); break;
    case 't': options.seconds = atof(value); break;
    case 'u': options.warm_up = atof(value); break;
    case 'a': options.ack = true; break;
    case 'd': options.dialect.pong_delay_us = (uint64_t)(atof(value) * 1000); break;
    case 'b': options.dialect.socketio = false; break;
    case 'H': options.dialect.host = value; break;
    case 'R': options.dialect.path = value; break;
    case 'S': options.dialect.subprotocol = value; break;
    case 'N': options.dialect.namespace = value; break;
    case 'I': options.dialect.identify = value; break;
    case 'A': options.dialect.await = value; break;
    case 'x': options.prefix = value; break;
    case 'e': options.event = value; break;
    case 'T': options.to = value; break;
    default: fputs(usage, stderr); exit(2);
    }
}

static void check_options(void) {
    if (!options.dialect.port || !options.pid) die("--port and --pid are needed");
    if (options.pairs < 1 || options.window < 1 || options.window > SLOTS / 2) die("--pairs or --window is out of range");
    if (options.rate <= 0 || options.seconds <= 0) die("--rate and --seconds must be above 0");
    if (options.size > LARGEST_MESSAGE) die("--size is at most %d", LARGEST_MESSAGE);
    if (options.mode == OFFLINE && options.mailboxes < 1) die("mode offline needs --mailboxes");
    if (!options.dialect.socketio && (options.ack || options.mailboxes)) die("acknowledgements are Socket.IO's: not with --bare");
}

void read_options(int count, char **arguments) {
    static const char *const modes[] = {"sat", "rate", "idle", "offline"};
    int mode = 0;
    while (mode < 4 && (count < 2 || strcmp(arguments[1], modes[mode]))) mode++;
    options.mode = (enum mode)mode;
    if (mode == 4) set_option('?', "");
    for (int option; (option = getopt_long(count - 1, arguments + 1, "", known, NULL)) != -1;) set_option(option, optarg);
    check_options();
}
