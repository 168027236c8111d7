// A library for LD_PRELOAD that counts the calls a program makes for files, and lets one of them go wrong.
// Tools/fail-calls compiles and drives it.
//
//   FAULT_ROOT  calls count for files below this directory (relative paths too) and for standard output
//   FAULT_LOG   a file that gets a line for each counted call, or for the one that went wrong: number, name, place
//   FAULT_AT    number of the call to go wrong, from 1; 0 for none
//   FAULT_HOW   what happens: a number for errno, "short" for half the bytes, "kill" for SIGKILL in its place
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST 65536
static atomic_int number;
static atomic_char is_ours[MOST]; // by descriptor
static const char *root;
static int target, code, is_short, is_kill, log_file = -1;

__attribute__((constructor)) static void start(void) {
  const char *how = getenv("FAULT_HOW"), *at = getenv("FAULT_AT"), *path = getenv("FAULT_LOG");
  root = getenv("FAULT_ROOT");
  target = at ? atoi(at) : 0;
  is_short = how && strcmp(how, "short") == 0;
  is_kill = how && strcmp(how, "kill") == 0;
  code = how ? atoi(how) : 0;
  if (path) log_file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  is_ours[1] = 1;
}

static int known(int file) { return file >= 0 && file < MOST && is_ours[file]; }

static void note(int file, int ours) {
  if (file > 2 && file < MOST) is_ours[file] = ours;
}

static int below(int folder, const char *path) {
  if (!root || !path) return 0;
  if (path[0] == '/') return strncmp(path, root, strlen(root)) == 0;
  return folder == AT_FDCWD || known(folder);
}

// Whether this call goes wrong.
static int fails(const char *name, const char *place, int file) {
  int own = atomic_fetch_add(&number, 1) + 1;
  if (log_file >= 0 && (target == 0 || own == target)) {
    char line[600], link[300] = "", proc[40];
    if (!place) {
      snprintf(proc, sizeof proc, "/proc/self/fd/%d", file);
      long count = syscall(SYS_readlinkat, AT_FDCWD, proc, link, sizeof link - 1);
      link[count > 0 ? count : 0] = 0;
      place = link;
    }
    int count = snprintf(line, sizeof line, "%d %s %s\n", own, name, place);
    syscall(SYS_write, log_file, line, count);
  }
  if (own != target) return 0;
  if (is_kill) syscall(SYS_kill, getpid(), SIGKILL);
  errno = code;
  return 1;
}

#define REAL(name) \
  static __typeof__(name) *real; \
  if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);

#define FAIL(ours, name, place, file) \
  if ((ours) && fails(name, place, file) && !is_short) return -1;

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    REAL(name) \
    va_list rest; \
    va_start(rest, flags); \
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0; \
    va_end(rest); \
    int ours = below(AT_FDCWD, path); \
    FAIL(ours, flags & O_CREAT ? "open-create" : "open", path, -1) \
    int file = real(path, flags, mode); \
    note(file, ours); \
    return file; \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
  int name(int folder, const char *path, int flags, ...) { \
    REAL(name) \
    va_list rest; \
    va_start(rest, flags); \
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0; \
    va_end(rest); \
    int ours = below(folder, path); \
    FAIL(ours, flags & O_CREAT ? "open-create" : "open", path, -1) \
    int file = real(folder, path, flags, mode); \
    note(file, ours); \
    return file; \
  }
OPENAT(openat)
OPENAT(openat64)

// Reads and writes: `short` does half of the bytes.
#define MOVE(name, label, bytes) \
  ssize_t name(int file, bytes target_bytes, size_t count) { \
    REAL(name) \
    if (known(file) && fails(label, NULL, file)) { \
      if (!is_short) return -1; \
      count = count > 1 ? count / 2 : count; \
    } \
    return real(file, target_bytes, count); \
  }
MOVE(read, "read", void *)
MOVE(write, "write", const void *)

#define MOVE_AT(name, label, bytes, offset) \
  ssize_t name(int file, bytes target_bytes, size_t count, offset at) { \
    REAL(name) \
    if (known(file) && fails(label, NULL, file)) { \
      if (!is_short) return -1; \
      count = count > 1 ? count / 2 : count; \
    } \
    return real(file, target_bytes, count, at); \
  }
MOVE_AT(pread, "pread", void *, off_t)
MOVE_AT(pread64, "pread", void *, off64_t)
MOVE_AT(pwrite, "pwrite", const void *, off_t)
MOVE_AT(pwrite64, "pwrite", const void *, off64_t)

ssize_t writev(int file, const struct iovec *parts, int count) {
  REAL(writev)
  if (known(file) && fails("writev", NULL, file)) {
    if (!is_short) return -1;
    return real(file, parts, 1);
  }
  return real(file, parts, count);
}

// Calls on a descriptor.
#define ON_FILE(name, label, parameters, arguments) \
  int name parameters { \
    REAL(name) \
    FAIL(known(file), label, NULL, file) \
    return real arguments; \
  }
ON_FILE(fsync, "fsync", (int file), (file))
ON_FILE(fdatasync, "fsync", (int file), (file))
ON_FILE(ftruncate, "ftruncate", (int file, off_t size), (file, size))
ON_FILE(ftruncate64, "ftruncate", (int file, off64_t size), (file, size))
ON_FILE(flock, "flock", (int file, int how), (file, how))
ON_FILE(fstat, "fstat", (int file, struct stat *status), (file, status))
ON_FILE(fstat64, "fstat", (int file, struct stat64 *status), (file, status))

// Linux closes the file whatever it answers.
int close(int file) {
  REAL(close)
  if (known(file)) {
    int failed = fails("close", NULL, file) && !is_short, saved = errno;
    note(file, 0);
    int result = real(file);
    if (!failed) return result;
    errno = saved;
    return -1;
  }
  return real(file);
}

#define DUPLICATE(name) \
  int name(int file, int what, ...) { \
    REAL(name) \
    va_list rest; \
    va_start(rest, what); \
    void *value = va_arg(rest, void *); \
    va_end(rest); \
    if (what != F_DUPFD && what != F_DUPFD_CLOEXEC) return real(file, what, value); \
    FAIL(known(file), "fcntl", NULL, file) \
    int copy = real(file, what, value); \
    note(copy, known(file)); \
    return copy; \
  }
DUPLICATE(fcntl)
DUPLICATE(fcntl64)

#define MAP(name, offset) \
  void *name(void *address, size_t count, int protection, int flags, int file, offset at) { \
    REAL(name) \
    if (!(flags & MAP_ANONYMOUS) && known(file) && fails("mmap", NULL, file) && !is_short) return MAP_FAILED; \
    return real(address, count, protection, flags, file, at); \
  }
MAP(mmap, off_t)
MAP(mmap64, off64_t)

// Calls on a path.
#define ON_PATH(name, label, folder, parameters, arguments) \
  int name parameters { \
    REAL(name) \
    FAIL(below(folder, path), label, path, -1) \
    return real arguments; \
  }
ON_PATH(stat, "stat", AT_FDCWD, (const char *restrict path, struct stat *restrict status), (path, status))
ON_PATH(stat64, "stat", AT_FDCWD, (const char *restrict path, struct stat64 *restrict status), (path, status))
ON_PATH(lstat, "lstat", AT_FDCWD, (const char *restrict path, struct stat *restrict status), (path, status))
ON_PATH(lstat64, "lstat", AT_FDCWD, (const char *restrict path, struct stat64 *restrict status), (path, status))
ON_PATH(fstatat, "fstatat", folder, (int folder, const char *restrict path, struct stat *restrict status, int flags),
        (folder, path, status, flags))
ON_PATH(fstatat64, "fstatat", folder,
        (int folder, const char *restrict path, struct stat64 *restrict status, int flags),
        (folder, path, status, flags))
ON_PATH(access, "access", AT_FDCWD, (const char *path, int how), (path, how))
ON_PATH(faccessat, "access", folder, (int folder, const char *path, int how, int flags), (folder, path, how, flags))
ON_PATH(mkdir, "mkdir", AT_FDCWD, (const char *path, mode_t mode), (path, mode))
ON_PATH(rmdir, "rmdir", AT_FDCWD, (const char *path), (path))
ON_PATH(unlink, "unlink", AT_FDCWD, (const char *path), (path))
ON_PATH(unlinkat, "unlink", folder, (int folder, const char *path, int flags), (folder, path, flags))
ON_PATH(rename, "rename", AT_FDCWD, (const char *path, const char *to), (path, to))
ON_PATH(renameat, "rename", folder, (int folder, const char *path, int other, const char *to),
        (folder, path, other, to))
ON_PATH(renameat2, "rename", folder, (int folder, const char *path, int other, const char *to, unsigned flags),
        (folder, path, other, to, flags))
ON_PATH(link, "link", AT_FDCWD, (const char *path, const char *to), (path, to))
ON_PATH(linkat, "link", folder, (int folder, const char *path, int other, const char *to, int flags),
        (folder, path, other, to, flags))

DIR *opendir(const char *path) {
  REAL(opendir)
  if (below(AT_FDCWD, path) && fails("opendir", path, -1) && !is_short) return NULL;
  return real(path);
}
