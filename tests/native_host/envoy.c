// The functions that the host lends to the module, and the module's hooks: see envoy.h.

#include "envoy.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

static pthread_mutex_t definitions = PTHREAD_MUTEX_INITIALIZER;
char *metric_names[METRICS_MAX];
size_t metric_count;
_Thread_local uint64_t lent_calls, allocations;

void *(*config_new)(Config *, Bytes, Bytes);
void (*config_destroy)(void *);
void (*config_scheduled)(Config *, void *, uint64_t);
void (*callout_done)(Config *, void *, uint64_t, int, Header *, size_t, Bytes *, size_t);
void *(*filter_new)(void *, Stream *);
int (*request_headers)(Stream *, void *, bool);
int (*response_headers)(Stream *, void *, bool);
int (*local_reply)(Stream *, void *, uint32_t, Bytes, bool);
void (*stream_complete)(Stream *, void *);
void (*filter_destroy)(void *);

unsigned touch(Bytes bytes) {
  unsigned sum = 0;
  for (size_t at = 0; at < bytes.len; at++) sum += (unsigned char)bytes.data[at];
  return sum;
}

Bytes copy(Bytes bytes) {
  uint64_t before = allocations;
  char *data = malloc(bytes.len + !bytes.len);
  allocations = before;
  if (bytes.len) memcpy(data, bytes.data, bytes.len);
  return (Bytes){data, bytes.len};
}

Bytes text(const char *data) { return (Bytes){data, strlen(data)}; }

bool is_same(Bytes a, Bytes b) { return a.len == b.len && memcmp(a.data, b.data, a.len) == 0; }

void add(Map *map, Bytes name, Bytes value) {
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

void clear(Map *map) {
  while (map->count) {
    map->count--;
    free((char *)map->list[map->count].name.data);
    free((char *)map->list[map->count].value.data);
  }
}

static Map *map_of(Stream *stream, unsigned kind) { return kind == 0 ? &stream->request : &stream->response; }

#define LENT(result, name) __attribute__((visibility("default"))) result envoy_dynamic_module_callback_##name

LENT(void, log)(unsigned level, Bytes line) {
  lent_calls++;
  on_log(level, line);
}
LENT(void, log_v2)(unsigned level, Bytes line, Bytes file, uint32_t number) {
  (void)file, (void)number;
  envoy_dynamic_module_callback_log(level, line);
}
LENT(bool, is_validation_mode)(void) { return false; }
LENT(uint32_t, get_concurrency)(void) { return WORKERS; }

LENT(size_t, http_get_headers_size)(Stream *stream, unsigned kind) {
  lent_calls++;
  return map_of(stream, kind)->count;
}
LENT(bool, http_get_headers)(Stream *stream, unsigned kind, Header *out) {
  lent_calls++;
  Map *map = map_of(stream, kind);
  memcpy(out, map->list, map->count * sizeof *out);
  return true;
}
LENT(bool, http_get_header)(Stream *stream, unsigned kind, Bytes name, Bytes *out, size_t index, size_t *count) {
  lent_calls++;
  Map *map = map_of(stream, kind);
  size_t found = 0;
  *out = (Bytes){NULL, 0};
  for (size_t at = 0; at < map->count; at++)
    if (is_same(map->list[at].name, name) && found++ == index) *out = map->list[at].value;
  if (count) *count = found;
  return index < found;
}
LENT(bool, http_add_header)(Stream *stream, unsigned kind, Bytes name, Bytes value) {
  lent_calls++;
  add(map_of(stream, kind), name, value);
  on_header(stream, kind, name, value);
  return true;
}
LENT(bool, http_set_header)(Stream *stream, unsigned kind, Bytes name, Bytes value) {
  lent_calls++;
  cut(map_of(stream, kind), name);
  if (!value.data) return true;
  add(map_of(stream, kind), name, value);
  on_header(stream, kind, name, value);
  return true;
}
LENT(void, http_send_response)(Stream *stream, uint32_t status, Header *headers, size_t count, Bytes body, Bytes details) {
  lent_calls++;
  for (size_t at = 0; at < count; at++) add(&stream->response, headers[at].name, headers[at].value);
  touch(body);
  stream->status = status, stream->is_answered = true;
  if (local_reply) local_reply(stream, stream->filter, status, details, false);
}
LENT(void, http_clear_route_cache)(Stream *stream) {
  lent_calls++;
  (void)stream;
}
LENT(uint32_t, http_filter_get_worker_index)(Stream *stream) {
  lent_calls++;
  return stream->worker;
}
LENT(bool, http_filter_get_attribute_string)(Stream *stream, unsigned id, Bytes *out) {
  lent_calls++;
  (void)stream;
  *out = text("via_upstream");
  return id == 16;
}
LENT(bool, http_filter_get_attribute_int)(Stream *stream, unsigned id, uint64_t *out) {
  lent_calls++;
  *out = stream->status;
  return id == 15 && stream->status;
}

static int define(Bytes name, Bytes *labels, size_t count, size_t *id) {
  lent_calls++;
  for (size_t at = 0; at < count; at++) touch(labels[at]);
  pthread_mutex_lock(&definitions);
  // Every config defines the same ones again.
  for (*id = 0; *id < metric_count; ++*id)
    if (is_same(text(metric_names[*id]), name)) break;
  if (*id == METRICS_MAX) abort();
  if (*id == metric_count) metric_names[metric_count++] = strndup(name.data, name.len);
  pthread_mutex_unlock(&definitions);
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
static int change(Config *config, size_t id, Bytes *values, size_t count, uint64_t by, bool is_gauge) {
  lent_calls++;
  for (size_t at = 0; at < count; at++) touch(values[at]);
  on_metric(config, id, values, count, by, is_gauge);
  return 0;
}
LENT(int, http_filter_increment_counter)(void *stream, size_t id, Bytes *values, size_t count, uint64_t by) {
  (void)stream;
  return change(NULL, id, values, count, by, false);
}
LENT(int, http_filter_set_gauge)(void *stream, size_t id, Bytes *values, size_t count, uint64_t value) {
  (void)stream;
  return change(NULL, id, values, count, value, true);
}
LENT(int, http_filter_config_increment_counter)(Config *config, size_t id, Bytes *values, size_t count, uint64_t by) {
  return change(config, id, values, count, by, false);
}
LENT(int, http_filter_config_set_gauge)(Config *config, size_t id, Bytes *values, size_t count, uint64_t value) {
  return change(config, id, values, count, value, true);
}

LENT(int, http_filter_config_http_callout)(Config *config, uint64_t *id, Bytes cluster, Header *headers, size_t count, Bytes body,
                                           uint64_t timeout_ms) {
  lent_calls++;
  for (size_t at = 0; at < count; at++) touch(headers[at].name), touch(headers[at].value);
  touch(body);
  Call call = {config, cluster, body, headers, count, timeout_ms};
  return on_call(&call, id);
}
LENT(void *, http_filter_config_scheduler_new)(Config *config) { return config; }
LENT(void, http_filter_config_scheduler_delete)(void *scheduler) { (void)scheduler; }
LENT(void, http_filter_config_scheduler_commit)(void *scheduler, uint64_t event) {
  (void)event;
  on_commit(scheduler);
}

char *read_file(const char *name) {
  FILE *file = fopen(name, "rb");
  if (!file || fseek(file, 0, SEEK_END)) abort();
  long size = ftell(file);
  char *content = calloc((size_t)size + 1, 1);
  rewind(file);
  if (fread(content, 1, (size_t)size, file) != (size_t)size) abort();
  fclose(file);
  return content;
}

static void *hook(void *module, const char *name) {
  char symbol[96];
  snprintf(symbol, sizeof symbol, "envoy_dynamic_module_on_%s", name);
  return dlsym(module, symbol);
}

const char *load(const char *name) {
  void *module = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!module) fprintf(stderr, "%s\n", dlerror()), exit(2);
  *(void **)&config_new = hook(module, "http_filter_config_new");
  *(void **)&config_destroy = hook(module, "http_filter_config_destroy");
  *(void **)&config_scheduled = hook(module, "http_filter_config_scheduled");
  *(void **)&callout_done = hook(module, "http_filter_config_http_callout_done");
  *(void **)&filter_new = hook(module, "http_filter_new");
  *(void **)&filter_destroy = hook(module, "http_filter_destroy");
  *(void **)&request_headers = hook(module, "http_filter_request_headers");
  *(void **)&response_headers = hook(module, "http_filter_response_headers");
  *(void **)&local_reply = hook(module, "http_filter_local_reply");
  *(void **)&stream_complete = hook(module, "http_filter_stream_complete");
  const char *(*init)(void) = NULL;
  *(void **)&init = hook(module, "program_init");
  return init();
}
