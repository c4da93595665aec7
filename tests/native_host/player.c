// Plays single steps of a host that stands in for Envoy (envoy.h), as the commands on the standard input ask for them. Nothing else
// happens in the process: its clock stands still between steps, its random bits follow from SEED, its id is NUMBER, and the thread
// of the spool stops at every gate, which is before each change of the disk. crates/testkit/src/native_process.rs explains the
// commands and the answers.
//
//     player MODULE SEED NUMBER

#include "envoy.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { STREAMS_MAX = 4096, CONFIGS_MAX = 256, TEXT_MAX = 512, SKIPPED = 1000 };

struct Config { void *plugin; unsigned number; };

static Config configs[CONFIGS_MAX];
static Stream streams[STREAMS_MAX];
static uint64_t seed;
static pid_t number;
static long wall_ms = 1795392000000;
static _Thread_local bool is_spool;

// The gate at which the thread of the spool waits; empty while the thread runs.
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static char gate[TEXT_MAX];
// The error of the function behind it, and how much of a write happens before the error.
static int gate_error;
static size_t gate_bytes;
// No gate is closed any more: the last config ends.
static bool is_over;

// The C library's own allocator, behind the one that counts.
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

void *malloc(size_t size) {
  allocations++;
  return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
  allocations++;
  return __libc_calloc(count, size);
}
void *realloc(void *memory, size_t size) {
  allocations++;
  return __libc_realloc(memory, size);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  static _Thread_local time_t hours;
  int result = 0;
  if (clock == CLOCK_REALTIME) {
    *time = (struct timespec){.tv_sec = wall_ms / 1000, .tv_nsec = wall_ms % 1000 * 1000000};
  } else {
    result = (int)syscall(SYS_clock_gettime, clock, time);
    // The spool's waits for a change end at once: its pause after them is a gate.
    if (is_spool) time->tv_sec += 3600 * ++hours;
  }
  return result;
}
ssize_t getrandom(void *buffer, size_t len, unsigned flags) {
  (void)flags;
  static _Thread_local uint64_t state;
  if (!state) state = 2 * seed + is_spool + 1;
  for (size_t at = 0; at < len; at++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    ((unsigned char *)buffer)[at] = (unsigned char)(state >> 56);
  }
  return (ssize_t)len;
}
pid_t getpid(void) { return number; }

// Waits until a step opens the gate, and gives the error that the function behind it has.
static int pass(const char *what, const char *path) {
  pthread_mutex_lock(&turn);
  if (!is_over) snprintf(gate, sizeof gate, "%s %s", what, path);
  pthread_cond_broadcast(&turned);
  while (gate[0] && !is_over) pthread_cond_wait(&turned, &turn);
  gate[0] = 0;
  int error = is_over ? 0 : gate_error;
  pthread_mutex_unlock(&turn);
  errno = error;
  return error;
}
static int pass_file(const char *what, int file) {
  char link[64], path[TEXT_MAX / 2] = "";
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  if (readlink(link, path, sizeof path - 1) < 0) abort();
  return pass(what, path);
}

// The functions of the system that have a gate.
int pthread_setname_np(pthread_t thread, const char *name) {
  (void)thread;
  is_spool = is_same(text(name), text("edgesplit-spool"));
  if (is_spool) pass("start", "");
  return 0;
}
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left) {
  if (!is_spool) return (int)syscall(SYS_clock_nanosleep, clock, flags, time, left);
  pass("sleep", "");
  return 0;
}
ssize_t pwrite64(int file, const void *bytes, size_t len, off_t at) {
  char what[64];
  snprintf(what, sizeof what, "write %zu %ld", len, (long)at);
  if (!is_spool || !pass_file(what, file)) return pwrite(file, bytes, len, at);
  int error = errno;
  if (pwrite(file, bytes, gate_bytes < len ? gate_bytes : len, at) < 0) abort();
  errno = error;
  return -1;
}
int fdatasync(int file) { return is_spool && pass_file("sync", file) ? -1 : 0; }
int fsync(int file) { return is_spool && pass_file("sync", file) ? -1 : 0; }
int unlink(const char *path) {
  int error = is_spool ? pass("remove", path) : 0;
  if (error == SKIPPED) return 0;
  return error ? -1 : unlinkat(AT_FDCWD, path, 0);
}

static void say(const char *head, Bytes a, Bytes b, Bytes c) {
  printf("%s %zu %zu %zu\n", head, a.len, b.len, c.len);
  fwrite(a.data, 1, a.len, stdout), fwrite(b.data, 1, b.len, stdout), fwrite(c.data, 1, c.len, stdout);
}

static const Bytes NONE = {"", 0};

void on_log(unsigned level, Bytes line) {
  char head[32];
  snprintf(head, sizeof head, "log %u", level);
  say(head, line, NONE, NONE);
}
void on_header(Stream *stream, unsigned kind, Bytes name, Bytes value) {
  (void)stream;
  char head[32];
  snprintf(head, sizeof head, "header %u", kind);
  say(head, name, value, NONE);
}
void on_metric(Config *config, size_t id, Bytes *values, size_t count, uint64_t by, bool is_gauge) {
  (void)values;
  char head[64];
  snprintf(head, sizeof head, "%s %u %lu", is_gauge ? "gauge" : "counter", config->number, (unsigned long)by);
  // Metrics with labels are sums of others here.
  if (!count) say(head, text(metric_names[id]), NONE, NONE);
}
int on_call(const Call *call, uint64_t *id) {
  char head[64], headers[4096];
  size_t len = 0;
  for (size_t at = 0; at < call->header_count; at++) {
    Bytes name = call->headers[at].name, value = call->headers[at].value;
    if (len + name.len + value.len + 2 > sizeof headers) abort();
    len += (size_t)sprintf(headers + len, "%.*s=%.*s\n", (int)name.len, name.data, (int)value.len, value.data);
  }
  snprintf(head, sizeof head, "call %u %lu", call->config->number, (unsigned long)call->timeout_ms);
  say(head, call->cluster, (Bytes){headers, len}, call->body);
  fflush(stdout);
  unsigned long answer = 0;
  char line[64];
  if (!fgets(line, sizeof line, stdin) || sscanf(line, "%lu", &answer) != 1) exit(2);
  *id = answer;
  return answer ? 0 : 2;
}
void on_commit(Config *config) { (void)config; }

// Reads `len` bytes that follow a command.
static Bytes read_bytes(size_t len) {
  char *data = malloc(len + 1);
  if (fread(data, 1, len, stdin) != len) exit(2);
  return (Bytes){data, len};
}

// Reads headers: lines with `NAME=VALUE`.
static void read_headers(Map *map, Bytes lines) {
  const char *at = lines.data, *end = at + lines.len;
  while (at < end) {
    const char *middle = memchr(at, '=', (size_t)(end - at));
    const char *line_end = middle ? memchr(middle, '\n', (size_t)(end - middle)) : NULL;
    if (!line_end) abort();
    add(map, (Bytes){at, (size_t)(middle - at)}, (Bytes){middle + 1, (size_t)(line_end - middle) - 1});
    at = line_end + 1;
  }
}

static void play_request(Stream *stream, Config *config, unsigned worker, Bytes headers) {
  *stream = (Stream){.worker = worker};
  read_headers(&stream->request, headers);
  lent_calls = allocations = 0;
  stream->filter = filter_new(config->plugin, stream);
  request_headers(stream, stream->filter, true);
}

static void play_response(Stream *stream, unsigned status, Bytes headers) {
  read_headers(&stream->response, headers);
  stream->status = status;
  lent_calls = allocations = 0;
  response_headers(stream, stream->filter, false);
  stream_complete(stream, stream->filter);
  filter_destroy(stream->filter);
  clear(&stream->request), clear(&stream->response);
}

static void play_reply(Config *config, uint64_t call, bool is_reset, size_t headers_len, Bytes both) {
  Map map = {.count = 0};
  read_headers(&map, (Bytes){both.data, headers_len});
  Bytes body = {both.data + headers_len, both.len - headers_len};
  callout_done(config, config->plugin, call, is_reset, map.list, map.count, &body, 1);
  clear(&map);
}

// Lets the thread of the spool pass its gate, and waits for it at the next one.
static void play_disk(int error, size_t bytes) {
  pthread_mutex_lock(&turn);
  while (!gate[0]) pthread_cond_wait(&turned, &turn);
  gate_error = error, gate_bytes = bytes, gate[0] = 0;
  pthread_cond_broadcast(&turned);
  while (!gate[0]) pthread_cond_wait(&turned, &turn);
  say("gate", text(gate), NONE, NONE);
  pthread_mutex_unlock(&turn);
}

static void play_end(Config *config, bool is_last) {
  pthread_mutex_lock(&turn);
  is_over = is_last;
  pthread_cond_broadcast(&turned);
  pthread_mutex_unlock(&turn);
  config_destroy(config->plugin);
}

int main(int count, char **arguments) {
  if (count != 4) return 2;
  static char buffer[1 << 16];
  setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
  seed = strtoul(arguments[2], NULL, 10), number = atoi(arguments[3]);
  load(arguments[1]);
  char line[256], name[16];
  while (fgets(line, sizeof line, stdin)) {
    unsigned long numbers[4] = {0}, len = 0;
    if (sscanf(line, "%15s %lu %ld %lu %lu %lu %lu", name, &len, &wall_ms, &numbers[0], &numbers[1], &numbers[2], &numbers[3]) < 3) return 2;
    Bytes command = text(name), bytes = read_bytes(len);
    Config *config = &configs[numbers[0] % CONFIGS_MAX];
    Stream *stream = &streams[numbers[1] % STREAMS_MAX];
    if (is_same(command, text("config"))) {
      config->number = (unsigned)numbers[0];
      config->plugin = config_new(config, text("sim"), bytes);
      if (!config->plugin) return 2;
    } else if (is_same(command, text("request"))) {
      play_request(stream, config, (unsigned)numbers[2], bytes);
    } else if (is_same(command, text("response"))) {
      play_response(stream, (unsigned)numbers[2], bytes);
    } else if (is_same(command, text("tick"))) {
      config_scheduled(config, config->plugin, 0);
    } else if (is_same(command, text("reply"))) {
      play_reply(config, numbers[1], numbers[2], numbers[3], bytes);
    } else if (is_same(command, text("disk"))) {
      play_disk((int)numbers[0], numbers[1]);
    } else if (is_same(command, text("end"))) {
      play_end(config, numbers[1]);
    } else {
      return 2;
    }
    free((char *)bytes.data);
    printf("done %lu %lu\n", (unsigned long)lent_calls, (unsigned long)allocations);
    fflush(stdout);
  }
  return 0;
}
