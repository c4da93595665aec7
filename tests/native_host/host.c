// A host for the native module, in place of Envoy: it lends the module the functions that Envoy lends, and drives its hooks with
// requests of many visitors, hostile ones among them, from several threads. tests/native_host.rs runs it, with valgrind too: every
// text of the host's is a block of its own and is freed as soon as Envoy's rules allow it.
//
//     host MODULE PLUGIN EXPERIMENTS REQUESTS ROUNDS SECONDS
//
// In every round, a new config replaces the one before, and each worker thread sends REQUESTS requests. There are ROUNDS, and more
// until SECONDS have passed.

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 2, HEADERS_MAX = 64, METRICS_MAX = 512, CALLS_MAX = 256, VISITORS = 50000 };

typedef struct { const char *data; size_t len; } Bytes;
typedef struct { Bytes name, value; } Header;
typedef struct { Header list[HEADERS_MAX]; size_t count; } Map;
typedef struct { Map request, response; unsigned worker; uint64_t status; bool is_answered; void *filter; } Stream;
typedef struct { uint64_t id; bool is_fetch; } Call;
typedef struct { void *plugin; unsigned worker, requests; } Task;
typedef struct { bool is_due, has_ticked; Call calls[CALLS_MAX]; size_t call_count; void *plugin; } Config;

// The module's hooks.
static void *module;
static void *(*config_new)(Config *, Bytes, Bytes);
static void (*config_destroy)(void *);
static void (*config_scheduled)(Config *, void *, uint64_t);
static void (*callout_done)(Config *, void *, uint64_t, int, Header *, size_t, Bytes *, size_t);
static void *(*filter_new)(void *, Stream *);
static int (*request_headers)(Stream *, void *, bool);
static int (*response_headers)(Stream *, void *, bool);
static int (*local_reply)(Stream *, void *, uint32_t, Bytes, bool);
static void (*stream_complete)(Stream *, void *);
static void (*filter_destroy)(void *);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *metric_names[METRICS_MAX];
static size_t metric_count;
static uint64_t panics, events_emitted, calls_made, ticks, streams, next_call;
static char *plugin_text, *experiments_text;

// Reads all bytes, for valgrind.
static unsigned touch(Bytes bytes) {
  unsigned sum = 0;
  for (size_t at = 0; at < bytes.len; at++) sum += (unsigned char)bytes.data[at];
  return sum;
}

static Bytes copy(Bytes bytes) {
  char *data = malloc(bytes.len + !bytes.len);
  if (bytes.len) memcpy(data, bytes.data, bytes.len);
  return (Bytes){data, bytes.len};
}

static Bytes text(const char *data) { return (Bytes){data, strlen(data)}; }

static bool is_same(Bytes a, Bytes b) { return a.len == b.len && memcmp(a.data, b.data, a.len) == 0; }

static void add(Map *map, Bytes name, Bytes value) {
  if (map->count == HEADERS_MAX) abort();
  map->list[map->count++] = (Header){copy(name), copy(value)};
}

static void cut(Map *map, Bytes name) {
  size_t kept = 0;
  for (size_t at = 0; at < map->count; at++) {
    Header header = map->list[at];
    if (!is_same(header.name, name)) {
      map->list[kept++] = header;
      continue;
    }
    free((char *)header.name.data);
    free((char *)header.value.data);
  }
  map->count = kept;
}

static void clear(Map *map) {
  while (map->count) {
    map->count--;
    free((char *)map->list[map->count].name.data);
    free((char *)map->list[map->count].value.data);
  }
}

static Map *map_of(Stream *stream, unsigned kind) { return kind == 0 ? &stream->request : &stream->response; }

// The functions that the host lends.
#define LENT(result, name) __attribute__((visibility("default"))) result envoy_dynamic_module_callback_##name

LENT(void, log)(unsigned level, Bytes line) {
  if (level >= 4) fprintf(stderr, "%.*s\n", (int)line.len, line.data);
}
LENT(void, log_v2)(unsigned level, Bytes line, Bytes file, uint32_t number) {
  (void)file, (void)number;
  envoy_dynamic_module_callback_log(level, line);
}
LENT(bool, is_validation_mode)(void) { return false; }
LENT(uint32_t, get_concurrency)(void) { return WORKERS; }

LENT(size_t, http_get_headers_size)(Stream *stream, unsigned kind) { return map_of(stream, kind)->count; }
LENT(bool, http_get_headers)(Stream *stream, unsigned kind, Header *out) {
  Map *map = map_of(stream, kind);
  memcpy(out, map->list, map->count * sizeof *out);
  return true;
}
LENT(bool, http_get_header)(Stream *stream, unsigned kind, Bytes name, Bytes *out, size_t index, size_t *count) {
  Map *map = map_of(stream, kind);
  size_t found = 0;
  *out = (Bytes){NULL, 0};
  for (size_t at = 0; at < map->count; at++)
    if (is_same(map->list[at].name, name) && found++ == index) *out = map->list[at].value;
  if (count) *count = found;
  return index < found;
}
LENT(bool, http_add_header)(Stream *stream, unsigned kind, Bytes name, Bytes value) {
  add(map_of(stream, kind), name, value);
  return true;
}
LENT(bool, http_set_header)(Stream *stream, unsigned kind, Bytes name, Bytes value) {
  cut(map_of(stream, kind), name);
  if (value.data) add(map_of(stream, kind), name, value);
  return true;
}
LENT(void, http_send_response)(Stream *stream, uint32_t status, Header *headers, size_t count, Bytes body, Bytes details) {
  for (size_t at = 0; at < count; at++) add(&stream->response, headers[at].name, headers[at].value);
  touch(body);
  stream->status = status, stream->is_answered = true;
  if (local_reply) local_reply(stream, stream->filter, status, details, false);
}
LENT(void, http_clear_route_cache)(Stream *stream) { (void)stream; }
LENT(uint32_t, http_filter_get_worker_index)(Stream *stream) { return stream->worker; }
LENT(bool, http_filter_get_attribute_string)(Stream *stream, unsigned id, Bytes *out) {
  (void)stream;
  *out = text("via_upstream");
  return id == 16;
}
LENT(bool, http_filter_get_attribute_int)(Stream *stream, unsigned id, uint64_t *out) {
  *out = stream->status;
  return id == 15 && stream->status;
}

static int define(Bytes name, Bytes *labels, size_t count, size_t *id) {
  for (size_t at = 0; at < count; at++) touch(labels[at]);
  // Every config defines the same ones again.
  for (*id = 0; *id < metric_count; ++*id)
    if (is_same(text(metric_names[*id]), name)) return 0;
  if (metric_count == METRICS_MAX) abort();
  metric_names[metric_count++] = strndup(name.data, name.len);
  return 0;
}
LENT(int, http_filter_config_define_counter)(Config *config, Bytes name, Bytes *labels, size_t count, size_t *id) {
  (void)config;
  return define(name, labels, count, id);
}
LENT(int, http_filter_config_define_gauge)(Config *config, Bytes name, Bytes *labels, size_t count, size_t *id) {
  (void)config;
  return define(name, labels, count, id);
}
static int change(size_t id, Bytes *values, size_t count, uint64_t by) {
  for (size_t at = 0; at < count; at++) touch(values[at]);
  pthread_mutex_lock(&lock);
  if (strstr(metric_names[id], ".errors.panic")) panics += by;
  if (strstr(metric_names[id], ".events.emitted")) events_emitted += by;
  pthread_mutex_unlock(&lock);
  return 0;
}
LENT(int, http_filter_increment_counter)(void *stream, size_t id, Bytes *values, size_t count, uint64_t by) {
  (void)stream;
  return change(id, values, count, by);
}
LENT(int, http_filter_set_gauge)(void *stream, size_t id, Bytes *values, size_t count, uint64_t value) {
  (void)stream;
  return change(id, values, count, value);
}
LENT(int, http_filter_config_increment_counter)(void *config, size_t id, Bytes *values, size_t count, uint64_t by) {
  (void)config;
  return change(id, values, count, by);
}
LENT(int, http_filter_config_set_gauge)(void *config, size_t id, Bytes *values, size_t count, uint64_t value) {
  (void)config;
  return change(id, values, count, value);
}

// Calls start on the main thread only, like ticks and replies.
LENT(int, http_filter_config_http_callout)(Config *config, uint64_t *id, Bytes cluster, Header *headers, size_t count, Bytes body,
                                           uint64_t timeout_ms) {
  (void)timeout_ms;
  for (size_t at = 0; at < count; at++) touch(headers[at].name), touch(headers[at].value);
  touch(body);
  if (config->call_count == CALLS_MAX) return 2;
  *id = next_call++, calls_made++;
  config->calls[config->call_count++] = (Call){*id, is_same(cluster, text("experiments"))};
  return 0;
}
LENT(void *, http_filter_config_scheduler_new)(Config *config) { return config; }
LENT(void, http_filter_config_scheduler_delete)(void *scheduler) { (void)scheduler; }
LENT(void, http_filter_config_scheduler_commit)(void *scheduler, uint64_t event) {
  (void)event;
  pthread_mutex_lock(&lock);
  ((Config *)scheduler)->is_due = true;
  pthread_mutex_unlock(&lock);
}

// The work of the main thread for a config: a tick if one is due, and the replies to its calls.
static void serve(Config *config) {
  pthread_mutex_lock(&lock);
  bool is_due = config->is_due;
  config->is_due = false;
  pthread_mutex_unlock(&lock);
  if (is_due) config_scheduled(config, config->plugin, 0), config->has_ticked = true, ticks++;
  static const char *const STATUSES[] = {"200", "200", "200", "503", "413", "429", "400"};
  Call calls[CALLS_MAX];
  size_t count = config->call_count;
  memcpy(calls, config->calls, sizeof calls);
  config->call_count = 0;
  for (size_t at = 0; at < count; at++) {
    Call call = calls[at];
    if (call.id % 9 == 8) {
      callout_done(config, config->plugin, call.id, 1, NULL, 0, NULL, 0);
      continue;
    }
    const char *status = call.is_fetch ? "200" : STATUSES[call.id % 7];
    Header header = {copy(text(":status")), copy(text(status))};
    Bytes body = copy(text(call.is_fetch ? experiments_text : ""));
    Bytes chunks[] = {{body.data, body.len / 2}, {NULL, 0}, {body.data + body.len / 2, body.len - body.len / 2}};
    callout_done(config, config->plugin, call.id, 0, &header, 1, chunks, 3);
    free((char *)header.name.data), free((char *)header.value.data), free((char *)body.data);
  }
}

static void header(Map *map, const char *name, const char *value) { add(map, text(name), text(value)); }

// Bytes of any kind, also such that no client should send.
static void hostile(Map *map, const char *name, unsigned *seed) {
  char value[2048];
  size_t len = (size_t)rand_r(seed) % sizeof value;
  for (size_t at = 0; at < len; at++) value[at] = (char)(rand_r(seed) % 255 + 1);
  add(map, text(name), (Bytes){value, len});
}

static void request(Stream *stream, unsigned *seed, unsigned number) {
  static const char *const PATHS[] = {"/checkout?ref=1", "/", "/api/orders", "/shop/1?a=%2&b", "//..%2f/checkout"};
  Map *map = &stream->request;
  char cookie[96], id[32];
  snprintf(cookie, sizeof cookie, "session=8f14e45f; uid=visitor-%d; theme=dark", rand_r(seed) % VISITORS);
  snprintf(id, sizeof id, "visitor-%d", rand_r(seed) % VISITORS);
  header(map, ":method", number % 7 ? "GET" : "POST");
  header(map, ":path", PATHS[number % 5]);
  header(map, ":authority", "shop.example");
  header(map, ":scheme", "https");
  header(map, "user-agent", number % 11 ? "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Firefox/145.0" : "Googlebot/2.1");
  header(map, "cookie", cookie);
  if (number % 3) header(map, "x-user-id", id);
  if (number % 5 == 0) header(map, "x-ab-assignments", "forged=yes"), header(map, "x_ab_cache_key", "forged");
  if (number % 13 == 0) hostile(map, "cookie", seed), hostile(map, "x-country", seed), hostile(map, "referer", seed);
  if (number % 17 == 0) add(map, text("x-empty"), (Bytes){NULL, 0});
}

static void *work(void *argument) {
  Task *task = argument;
  unsigned seed = task->worker + 1;
  for (unsigned number = 0; number < task->requests; number++) {
    Stream stream = {.worker = task->worker};
    request(&stream, &seed, number);
    stream.filter = filter_new(task->plugin, &stream);
    if (!stream.filter) abort();
    // Some requests are refused before the filters, and some clients leave before the response.
    bool is_stopped = number % 19 && request_headers(&stream, stream.filter, true) == 1;
    if (is_stopped != stream.is_answered) abort();
    if (!is_stopped && number % 23) {
      stream.status = number % 29 ? 200 : 503;
      header(&stream.response, ":status", number % 29 ? "200" : "503");
      header(&stream.response, "cache-control", "public, max-age=60");
      response_headers(&stream, stream.filter, false);
    }
    stream_complete(&stream, stream.filter);
    filter_destroy(stream.filter);
    clear(&stream.request), clear(&stream.response);
    __atomic_add_fetch(&streams, 1, __ATOMIC_RELAXED);
  }
  return NULL;
}

static char *read_file(const char *name) {
  FILE *file = fopen(name, "rb");
  if (!file || fseek(file, 0, SEEK_END)) abort();
  long size = ftell(file);
  char *content = calloc((size_t)size + 1, 1);
  rewind(file);
  if (fread(content, 1, (size_t)size, file) != (size_t)size) abort();
  fclose(file);
  return content;
}

static void *hook(const char *name) {
  char symbol[96];
  snprintf(symbol, sizeof symbol, "envoy_dynamic_module_on_%s", name);
  return dlsym(module, symbol);
}

static long resident_kb(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%*d %ld", &pages) != 1) abort();
  fclose(file);
  return pages * sysconf(_SC_PAGESIZE) / 1024;
}

int main(int count, char **arguments) {
  if (count != 7) return 2;
  module = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (!module) return fprintf(stderr, "%s\n", dlerror()), 2;
  plugin_text = read_file(arguments[2]), experiments_text = read_file(arguments[3]);
  unsigned requests = (unsigned)atoi(arguments[4]), rounds = (unsigned)atoi(arguments[5]);
  time_t enough = time(NULL) + atoi(arguments[6]);
  *(void **)&config_new = hook("http_filter_config_new"), *(void **)&config_destroy = hook("http_filter_config_destroy");
  *(void **)&config_scheduled = hook("http_filter_config_scheduled");
  *(void **)&callout_done = hook("http_filter_config_http_callout_done");
  *(void **)&filter_new = hook("http_filter_new"), *(void **)&filter_destroy = hook("http_filter_destroy");
  *(void **)&request_headers = hook("http_filter_request_headers");
  *(void **)&response_headers = hook("http_filter_response_headers");
  *(void **)&local_reply = hook("http_filter_local_reply"), *(void **)&stream_complete = hook("http_filter_stream_complete");
  const char *(*init)(void) = NULL;
  *(void **)&init = hook("program_init");
  printf("ABI %s\n", init());

  Config *before = NULL;
  for (unsigned round = 0; round < rounds || time(NULL) < enough; round++) {
    Config *config = calloc(1, sizeof *config);
    config->plugin = config_new(config, text("demo"), text(plugin_text));
    if (!config->plugin) return fprintf(stderr, "the module refuses its configuration\n"), 2;
    Task tasks[WORKERS];
    pthread_t threads[WORKERS];
    uint64_t end = streams + (uint64_t)requests * WORKERS;
    for (unsigned worker = 0; worker < WORKERS; worker++) {
      tasks[worker] = (Task){config->plugin, worker, requests};
      if (pthread_create(&threads[worker], NULL, work, &tasks[worker])) abort();
    }
    // Each config ticks at least once, even if its requests take less time than that.
    while (__atomic_load_n(&streams, __ATOMIC_RELAXED) < end || !config->has_ticked) {
      usleep(1000);
      serve(config);
      // The config before it drains meanwhile.
      if (before) serve(before);
    }
    for (unsigned worker = 0; worker < WORKERS; worker++) pthread_join(threads[worker], NULL);
    if (before) config_destroy(before->plugin), free(before);
    before = config;
    printf("round %u: %lu requests, %ld kB resident\n", round + 1, (unsigned long)streams, resident_kb());
    fflush(stdout);
  }
  if (before) config_destroy(before->plugin), free(before);
  for (size_t at = 0; at < metric_count; at++) free(metric_names[at]);
  free(plugin_text), free(experiments_text);
  printf("%lu ticks, %lu calls, %lu events, %lu panics\n", (unsigned long)ticks, (unsigned long)calls_made,
         (unsigned long)events_emitted, (unsigned long)panics);
  return panics || !ticks || !calls_made || !events_emitted;
}
