#include "usage.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

struct totals {
    double cpu_seconds;
    long resident_kb;
};

static void add_tree(int pid, struct totals *totals);

static void add_children(int pid, const char *thread, struct totals *totals) {
    char path[320];
    snprintf(path, sizeof path, "/proc/%d/task/%s/children", pid, thread);
    FILE *file = fopen(path, "r");
    if (!file) return;
    int child;
    while (fscanf(file, "%d", &child) == 1) add_tree(child, totals);
    fclose(file);
}

static void add_cpu(int pid, const char *thread, struct totals *totals) {
    char path[320];
    snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, thread);
    FILE *file = fopen(path, "r");
    if (!file) return;
    unsigned long long nanoseconds;
    if (fscanf(file, "%llu", &nanoseconds) == 1) totals->cpu_seconds += (double)nanoseconds / 1e9;
    fclose(file);
}

static void add_resident(int pid, struct totals *totals) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    FILE *file = fopen(path, "r");
    if (!file) return;
    long all, resident;
    if (fscanf(file, "%ld %ld", &all, &resident) == 2) totals->resident_kb += resident * (sysconf(_SC_PAGESIZE) / 1024);
    fclose(file);
}

static void add_tree(int pid, struct totals *totals) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *threads = opendir(path);
    if (!threads) return;
    add_resident(pid, totals);
    for (struct dirent *entry; (entry = readdir(threads));) {
        if (entry->d_name[0] == '.') continue;
        add_cpu(pid, entry->d_name, totals);
        add_children(pid, entry->d_name, totals);
    }
    closedir(threads);
}

double usage_cpu_seconds(int pid) {
    struct totals totals = {0};
    add_tree(pid, &totals);
    return totals.cpu_seconds;
}

long usage_resident_kb(int pid) {
    struct totals totals = {0};
    add_tree(pid, &totals);
    return totals.resident_kb;
}

double usage_own_cpu_seconds(void) {
    struct rusage own;
    getrusage(RUSAGE_SELF, &own);
    return (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) + (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6;
}
