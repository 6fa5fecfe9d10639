/* Takes what comes on connected sockets as cheaply as a kernel can: the load of bench/workers.py.
 *
 *     drain FD...
 *
 * The sockets are inherited, their TLS stands, and their other ends send without end. For each line on standard input, a
 * number of milliseconds, all of them are drained for that long; the answer is one line: bytes, nanoseconds of wall clock
 * and of this process's CPU. Nothing is copied (MSG_TRUNC, tcp(7)), and a socket wakes us once a quarter of a mebibyte is
 * there (SO_RCVLOWAT), so that on a machine with two cores the relay under test has nearly both.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

enum { MOST = 64, TURN = 1 << 22, ENOUGH = 1 << 18 };

static char nowhere[1]; /* MSG_TRUNC writes nothing to it */

static long long now(clockid_t clock) {
    struct timespec at;
    clock_gettime(clock, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static long long drain(int poll, long long nanoseconds) {
    struct epoll_event ready[MOST];
    long long end = now(CLOCK_MONOTONIC) + nanoseconds, left, taken = 0;
    while ((left = end - now(CLOCK_MONOTONIC)) > 0) {
        int count = epoll_wait(poll, ready, MOST, (int)(left / 1000000) + 1);
        if (count < 0 && errno != EINTR) fail("epoll_wait");
        for (int each = 0; each < count; each++) {
            ssize_t got = recv(ready[each].data.fd, nowhere, TURN, MSG_TRUNC | MSG_DONTWAIT);
            if (got == 0) {
                fputs("the relay ended a stream\n", stderr);
                exit(1);
            }
            if (got > 0) taken += got;
            else if (errno != EAGAIN) fail("recv");
        }
    }
    return taken;
}

int main(int count, char **arguments) {
    int poll = epoll_create1(0), enough = ENOUGH;
    if (poll < 0) fail("epoll_create1");
    for (int each = 1; each < count; each++) {
        struct epoll_event wanted = {.events = EPOLLIN, .data.fd = atoi(arguments[each])};
        if (setsockopt(wanted.data.fd, SOL_SOCKET, SO_RCVLOWAT, &enough, sizeof enough)) fail("SO_RCVLOWAT");
        if (epoll_ctl(poll, EPOLL_CTL_ADD, wanted.data.fd, &wanted)) fail("epoll_ctl");
    }
    char line[32];
    while (fgets(line, sizeof line, stdin)) {
        long long began = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        long long taken = drain(poll, atoll(line) * 1000000);
        printf("%lld %lld %lld\n", taken, now(CLOCK_MONOTONIC) - began, now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
        fflush(stdout);
    }
    return 0;
}
