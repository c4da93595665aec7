// Times the requests of tests/request_steps.rs in V8, in CPU time: the median of seven requests with their responses.
//
//   mkdir /tmp/requests && REQUESTS=/tmp/requests cargo test --test request_steps
//   node --no-liftoff --no-wasm-lazy-compilation --single-threaded benches/requests.mjs /tmp/requests dist/edgesplit.wasm
import fs from 'node:fs';
import {block, load, range, start, time} from './vm.mjs';

const [folder, path] = process.argv.slice(2);
const module = load(path);
const response = block([[':status', '200']]);

for (const file of fs.readdirSync(folder).sort()) {
  const {plugin, headers} = JSON.parse(fs.readFileSync(`${folder}/${file}`, 'utf8'));
  const vm = start(module, plugin), request = block(headers);
  if (!vm.isConfigured) throw new Error(`${file} is refused`);
  const times = range(7, number => {
    // In the next dedupe window, the exposures are reported again.
    vm.nowMs += 3_600_000;
    vm.exports.proxy_on_tick(1);
    return time(() => {
      const stream = number + 2;
      vm.headers = request;
      vm.exports.proxy_on_context_create(stream, 1);
      vm.exports.proxy_on_request_headers(stream, headers.length, 1);
      vm.headers = response;
      vm.exports.proxy_on_response_headers(stream, 1, 0);
      vm.exports.proxy_on_done(stream);
      vm.exports.proxy_on_delete(stream);
    });
  });
  console.log(file.replace('.json', ''), times.sort((a, b) => a - b)[3].toFixed(1), 'ms');
}
