"""CPU time of another process, user and system together, to the nanosecond.

/proc/PID/stat (and so psutil) counts in ticks of 10 ms, which is 2 % of one of our samples. The kernel keeps the same
account exactly, ended threads included, behind a clock per process: clock_getcpuclockid(3).
"""

import time

import psutil

_SCHED = 2  # CPUCLOCK_SCHED of the kernel's posix-timers.h: the scheduler's exact account, whole process


def cpu_seconds(pid: int) -> float:
    """CPU seconds of the process and of its living children, since each began."""
    family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return sum(_of_one(each) for each in family)


def _of_one(pid: int) -> float:
    try:
        return time.clock_gettime((~pid << 3) | _SCHED)
    except OSError:  # not Linux: coarser, but right
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
