/* What a process and its children have used, from /proc. */
#ifndef USAGE_H
#define USAGE_H

/* Seconds of CPU of every living thread of the tree (schedstat: nanoseconds, not ticks). */
double usage_cpu_seconds(int pid);

/* Resident memory of the tree in kB. */
long usage_resident_kb(int pid);

/* Seconds of CPU of this process. */
double usage_own_cpu_seconds(void);

#endif
