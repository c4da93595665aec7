// A VM of the module in V8, which is the runtime of Envoy too, with the host's functions in JavaScript.
import fs from 'node:fs';

const encoder = new TextEncoder(), decoder = new TextDecoder();

export const load = path => new WebAssembly.Module(fs.readFileSync(path ?? 'dist/edgesplit.wasm'));

export const range = (count, each) => Array.from({length: count}, (_, number) => each(number));

/** Headers as the proxy hands them over: numbers of pairs and lengths, then names and values, a NUL behind each. */
export function block(headers) {
  const texts = headers.flat().map(text => typeof text === 'string' ? encoder.encode(text) : text);
  const bytes = new Uint8Array(texts.reduce((size, text) => size + text.length + 1, 4 + 4 * texts.length));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, headers.length, true);
  let at = 4 + 4 * texts.length;
  texts.forEach((text, number) => {
    view.setUint32(4 + 4 * number, text.length, true);
    bytes.set(text, at);
    at += text.length + 1;
  });
  return bytes;
}

/**
 * Starts a VM with the plugin configuration `plugin`. `shared` is the process's shared data. The caller changes
 * `vm.headers`, `vm.body` and `vm.nowMs`, which the module reads next, and reads `vm.call`, the last HTTP call, `vm.period`, the
 * period of ticks, and `vm.headerCalls`, the number of calls that read or add headers.
 */
export function start(module, plugin, shared = new Map()) {
  const vm = {headers: block([[':status', '200']]), body: encoder.encode(JSON.stringify(plugin)), call: 0, period: 0,
    headerCalls: 0, nowMs: 1795392000000};
  let bytes, view;
  const refresh = () => {
    if (bytes?.buffer !== vm.exports.memory.buffer) {
      bytes = new Uint8Array(vm.exports.memory.buffer);
      view = new DataView(vm.exports.memory.buffer);
    }
  };
  const give = (text, address, length) => {
    const at = vm.exports.proxy_on_memory_allocate(text.length);
    refresh();
    bytes.set(text, at);
    view.setUint32(address, at, true);
    view.setUint32(length, text.length, true);
    return 0;
  };
  const text = (at, length) => (refresh(), decoder.decode(bytes.subarray(at, at + length)));
  const NOT_FOUND = 1;
  const host = {
    proxy_log: (_level, at, length) => {
      const line = text(at, length);
      vm.isRefused ||= line.includes('experiments are refused');
      if (process.env.LOG) console.error(line);
      return 0;
    },
    proxy_get_current_time_nanoseconds: at => (refresh(), view.setBigUint64(at, BigInt(vm.nowMs) * 1_000_000n, true), 0),
    proxy_get_buffer_bytes: (_kind, from, max, address, length) => give(vm.body.subarray(from, from + max), address, length),
    proxy_get_header_map_pairs: (_map, address, length) => (vm.headerCalls++, give(vm.headers, address, length)),
    proxy_get_header_map_value: (_map, _at, _length, address, length) => give(encoder.encode('200'), address, length),
    proxy_add_header_map_value: () => (vm.headerCalls++, 0),
    proxy_get_property: () => NOT_FOUND,
    proxy_get_shared_data: (at, size, address, length, cas) => {
      const value = shared.get(text(at, size));
      if (!value) return NOT_FOUND;
      view.setUint32(cas, 1, true);
      return give(value, address, length);
    },
    proxy_set_shared_data: (at, size, value, length) => {
      const key = text(at, size);
      shared.set(key, bytes.slice(value, value + length));
      return 0;
    },
    proxy_define_metric: (_kind, _name, _length, id) => (refresh(), view.setUint32(id, 7, true), 0),
    proxy_set_tick_period_milliseconds: ms => (vm.period = ms, 0),
    proxy_http_call: (...all) => (refresh(), view.setUint32(all.at(-1), ++vm.call, true), 0),
    random_get: (at, length) => (refresh(), crypto.getRandomValues(bytes.subarray(at, at + length)), 0),
    environ_sizes_get: (count, size) => (refresh(), view.setUint32(count, 0, true), view.setUint32(size, 0, true), 0),
  };
  const imports = {};
  for (const {module: from, name} of WebAssembly.Module.imports(module)) {
    (imports[from] ??= {})[name] = host[name] ?? (() => 0);
  }
  vm.exports = new WebAssembly.Instance(module, imports).exports;
  vm.exports._initialize?.();
  vm.exports.proxy_on_context_create(1, 0);
  vm.exports.proxy_on_vm_start(1, 0);
  vm.isConfigured = vm.exports.proxy_on_configure(1, vm.body.length) === 1;
  return vm;
}

/** How many milliseconds of CPU time `callback` takes. With V8's flag `--single-threaded` no other thread counts. */
export function time(callback) {
  const begin = process.cpuUsage();
  callback();
  const {user, system} = process.cpuUsage(begin);
  return (user + system) / 1_000;
}
