/* What is measured, with how much load, in which dialect: the command line. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "wire.h"

enum mode { SAT, RATE, IDLE, OFFLINE };
enum { SLOTS = 4096, LARGEST_MESSAGE = 1 << 20 }; /* messages that a sender can have in flight; --size at most */

struct options {
    enum mode mode;
    int pid, pairs, window, connections, size, mailboxes;
    double rate, seconds, warm_up;
    bool ack;
    const char *prefix, *event, *to;
    struct dialect dialect;
};

extern struct options options;

void read_options(int count, char **arguments); /* a mistake ends the program */

#endif
