// SPDX-License-Identifier: Apache-2.0
//
// Loads a trace into Perfetto's trace processor and prints the rows of queries:
//
//   node query.mjs DIR TRACE SQL...
//
// DIR has trace_processor.wasm, engine_bundle.node.js (the worker of Perfetto's UI) and engine.mjs (the
// client of its protocol). Each query prints one line: a JSON array of rows, each an array of columns.
import {readFileSync} from 'node:fs';
import {join, resolve} from 'node:path';
import {pathToFileURL} from 'node:url';
import vm from 'node:vm';

const [dir, trace, ...queries] = process.argv.slice(2);

// The worker expects a browser, of which it needs little: a place, and a way to read its one file.
const define = (name, value) => Object.defineProperty(globalThis, name, {value, writable: true, configurable: true});
define('self', globalThis);
define('WorkerGlobalScope', function () {});
define('location', {href: pathToFileURL(resolve(dir)).href + '/'});
define('XMLHttpRequest', class {
  open() {}
  send() { this.response = readFileSync(join(dir, 'trace_processor.wasm')).buffer; }
});
console.warn = () => {}; // about fields that are newer than the client

// There are two engines. Whether the one with 64-bit memory, which is not here, can run is found out by
// a module that is a memory section and no more.
const {Module} = WebAssembly;
WebAssembly.Module = function (bytes) {
  if (bytes[8] === 5) throw new Error('no 64-bit memory');
  return new Module(bytes);
};

vm.runInThisContext(readFileSync(join(dir, 'engine_bundle.node.js'), 'utf8'));
await new Promise((done) => setTimeout(done)); // it is ready after its first event

const {EngineBase} = await import(pathToFileURL(resolve(dir, 'engine.mjs')).href);
const {port1, port2} = new MessageChannel();
globalThis.self.onmessage({data: port1});

class Engine extends EngineBase {
  constructor() {
    super();
    port2.onmessage = (message) => this.onRpcResponseBytes(message.data);
  }
  rpcSendRequestBytes(bytes) { port2.postMessage(bytes); }
}

const engine = new Engine();
await engine.parse(new Uint8Array(readFileSync(trace)));
await engine.notifyEof();

for (const sql of queries) {
  const result = await engine.query(sql);
  if (result.error()) throw new Error(result.error());
  const columns = result.columns();
  const rows = [];
  for (const it = result.iter({}); it.valid(); it.next()) {
    rows.push(columns.map((name) => it.get(name)));
  }
  console.log(JSON.stringify(rows, (_, value) => (typeof value === 'bigint' ? Number(value) : value)));
}
process.exit(0);
