// Preloaded into the real binary: ends the process on entry to its n-th durable step, counted over all threads; takes away
// the system's random numbers; or moves its clock.
//
// strace counts the calls of each thread on its own, so a step on another thread could never be named. Here the count is
// one, in a file that the test writes (SIV_CRASH_AT), three numbers of eight bytes. The first: 0 counts nothing, n ends the
// process at the n-th step from now on, and what is left in it says how many steps were taken. A step is a call that
// changes a file or makes a change durable. The second: the error that getrandom and the devices of random numbers give. The
// third: by how many seconds the clock of the day is moved; that of intervals is left alone, as by whoever sets a clock.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static long *left;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("SIV_CRASH_AT");
  int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (file < 0) _exit(99);
  left = mmap(NULL, 3 * sizeof *left, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (left == MAP_FAILED) _exit(99);
  close(file);
}

static void step(void) {
  if (left && __atomic_load_n(left, __ATOMIC_SEQ_CST) > 0 && __atomic_sub_fetch(left, 1, __ATOMIC_SEQ_CST) == 0) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
}

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name); \
  step();

static int no_random(void) {
  long error = left ? __atomic_load_n(left + 1, __ATOMIC_SEQ_CST) : 0;
  if (error) errno = (int)error;
  return error != 0;
}

ssize_t getrandom(void *bytes, size_t count, unsigned flags) {
  static ssize_t (*real)(void *, size_t, unsigned);
  if (no_random()) return -1;
  if (!real) real = (ssize_t (*)(void *, size_t, unsigned))dlsym(RTLD_NEXT, "getrandom");
  return real(bytes, count, flags);
}

int open64(const char *path, int flags, ...) {
  static int (*real)(const char *, int, ...);
  va_list more;
  va_start(more, flags);
  mode_t mode = va_arg(more, mode_t);
  va_end(more);
  if (!strncmp(path, "/dev/", 5) && strstr(path, "random") && no_random()) return -1;
  if (!real) real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
  return real(path, flags, mode);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(clock, now);
  if (result == 0 && clock == CLOCK_REALTIME && left) now->tv_sec += __atomic_load_n(left + 2, __ATOMIC_SEQ_CST);
  return result;
}

// PostgreSQL asks for the time so.
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  static int (*real)(struct timeval *, void *);
  if (!real) real = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
  int result = real(now, zone);
  if (result == 0 && left) now->tv_sec += __atomic_load_n(left + 2, __ATOMIC_SEQ_CST);
  return result;
}

int fsync(int fd) { REAL(int, "fsync", int) return real(fd); }
int fdatasync(int fd) { REAL(int, "fdatasync", int) return real(fd); }
int unlink(const char *path) { REAL(int, "unlink", const char *) return real(path); }
int mkdir(const char *path, mode_t mode) { REAL(int, "mkdir", const char *, mode_t) return real(path, mode); }
int ftruncate64(int fd, off64_t length) { REAL(int, "ftruncate64", int, off64_t) return real(fd, length); }
int rename(const char *from, const char *to) {
  REAL(int, "rename", const char *, const char *) return real(from, to);
}
int linkat(int from, const char *old, int to, const char *new, int flags) {
  REAL(int, "linkat", int, const char *, int, const char *, int) return real(from, old, to, new, flags);
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
  REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t) return real(fd, bytes, count, at);
}
