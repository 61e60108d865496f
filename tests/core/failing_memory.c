/* A library to be preloaded: lets one request for memory fail, or all from one on. See starving.py.

   Counted are requests of the compiled core alone (its text lies in `ranges`), or all of the process. They go to glibc,
   or to the system, unless it is their turn to fail. */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

enum { MOST_RANGES = 64 };

static struct { uintptr_t begin, end; } ranges[MOST_RANGES];
static int n_ranges;
static long left;                                        /* requests until one fails; 0: none will */
static int goes_on;                                      /* all that follow fail too */
static long n_failed;

void memory_of_core(uintptr_t begin, uintptr_t end)
{
    if (n_ranges < MOST_RANGES) {
        ranges[n_ranges].begin = begin;
        ranges[n_ranges++].end = end;
    }
}

void memory_fail(long nth, int all_from_there)
{
    n_failed = 0;
    goes_on = all_from_there;
    left = nth;
}

long memory_failed(void)
{
    left = 0;
    return n_failed;
}

static int is_counted(void *caller)
{
    int i;
    for (i = 0; i < n_ranges; i++)
        if ((uintptr_t)caller >= ranges[i].begin && (uintptr_t)caller < ranges[i].end)
            return 1;
    return n_ranges == 0;
}

static int fails(void *caller)
{
    if (left == 0 || !is_counted(caller))
        return 0;
    if (left > 1) {
        left--;
        return 0;
    }
    left = goes_on;
    n_failed++;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t n) { return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(n); }

void *calloc(size_t n, size_t m) { return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(n, m); }

void *realloc(void *at, size_t n) { return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(at, n); }

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    if (fails(__builtin_return_address(0)))
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    if (fails(__builtin_return_address(0)))
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset);
}

int mprotect(void *at, size_t n, int protection)
{
    return fails(__builtin_return_address(0)) ? -1 : (int)syscall(SYS_mprotect, at, n, protection);
}
