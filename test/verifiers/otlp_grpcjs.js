#!/usr/bin/env node
// A second OTLP/gRPC receiver, on @grpc/grpc-js with the official protos: no line of it shared with
// ours, with the C core, or with nghttp2's own tools.
//
//   NODE_PATH=... node otlp_grpcjs.js --protos DIR [--control FILE] [--record FILE] [--tls CERT KEY]
//                                     [--max-streams N] [--gzip 1]
//
// Prints `listening PORT`. SIGUSR1 drains: GOAWAY, what runs may end, then a new server on the same port
// (`listening PORT` again). What --control holds, read for each request (missing means accept):
//   {"mode": "accept" | "partial" | "status" | "delay" | "freeze", "times": N, ...}
//   partial  rejected, message                  status  code, message, retry_delay_s (RetryInfo)
//   delay    delay_s
// A status is sent as trailers-only, as grpc-js does for a call that fails before a message. --record
// gets a JSON line a request and one a span. The limit of a message is grpc-js's own, 4 MiB.
'use strict';
const fs = require('fs');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const args = { control: '', record: '', protos: '', 'max-streams': '4', tls: [] };
for (let i = 2; i < process.argv.length; i += 2) {
  const name = process.argv[i].slice(2);
  args[name] = process.argv[i + 1];
  if (name === 'tls') args.tls = [process.argv[i + 1], process.argv[++i + 1]];
}

const SIGNALS = { trace: ['Trace', 'rejectedSpans'], metrics: ['Metrics', 'rejectedDataPoints'], logs: ['Logs', 'rejectedLogRecords'] };
const files = Object.keys(SIGNALS).map((s) => `opentelemetry/proto/collector/${s}/v1/${s}_service.proto`);
const root = grpc.loadPackageDefinition(loader.loadSync(files, { includeDirs: [args.protos], longs: String, defaults: true })).opentelemetry.proto;
const note = (line) => { if (args.record) fs.appendFileSync(args.record, JSON.stringify(line) + '\n'); };

let lastText = '', left;
function order() {
  let text, wanted;
  try {
    text = fs.readFileSync(args.control, 'utf8');
    wanted = JSON.parse(text);
  } catch { return { mode: 'accept' }; }
  if (text !== lastText) { lastText = text; left = wanted.times === undefined ? Infinity : wanted.times; }
  return left-- > 0 ? wanted : { mode: 'accept' };
}

// google.rpc.Status with one RetryInfo, by hand: three fields of three messages.
function retryInfo(code, message, delayS) {
  const varint = (v) => { const out = []; do { out.push(v & 127 | (v > 127 ? 128 : 0)); v = Math.floor(v / 128); } while (v); return Buffer.from(out); };
  const field = (no, data) => Buffer.concat([varint(no << 3 | 2), varint(data.length), data]);
  const duration = Buffer.concat([Buffer.from([8]), varint(Math.floor(delayS)), Buffer.from([16]), varint(Math.round(delayS % 1 * 1e9))]);
  const any = Buffer.concat([field(1, Buffer.from('type.googleapis.com/google.rpc.RetryInfo')), field(2, field(1, duration))]);
  return Buffer.concat([Buffer.from([8, code]), field(2, Buffer.from(message)), field(3, any)]);
}

let running = 0;
function handle(signal) {
  const [, rejected] = SIGNALS[signal];
  return async (call, callback) => {
    const o = order();
    running++;
    note({ kind: 'request', service: signal, mode: o.mode, running, peer: call.getPeer(), deadline_ms: Number(call.getDeadline()) - Date.now(), metadata: call.metadata.getMap() });
    const end = (error, value) => { running--; callback(error, value); };
    if (o.mode === 'freeze') return;
    if (o.mode === 'delay') await new Promise((done) => setTimeout(done, 1000 * (o.delay_s || 1)));
    if (o.mode === 'status') {
      const metadata = new grpc.Metadata();
      if (o.retry_delay_s) metadata.set('grpc-status-details-bin', retryInfo(o.code, o.message || '', o.retry_delay_s));
      end({ code: o.code, details: o.message || '', metadata });
      return;
    }
    for (const group of call.request.resourceSpans || [])
      for (const scope of group.scopeSpans)
        for (const span of scope.spans) note({ kind: 'span', name: span.name, span_id: span.spanId.toString('hex') });
    if (call.cancelled) note({ kind: 'cancelled' });
    end(null, o.mode === 'partial' ? { partialSuccess: { [rejected]: o.rejected, errorMessage: o.message || '' } } : {});
  };
}

let server;
function serve(port) {
  const options = { 'grpc.max_concurrent_streams': Number(args['max-streams']), 'grpc.so_reuseport': 0 };
  if (args.gzip) options['grpc.default_compression_algorithm'] = grpc.compressionAlgorithms.gzip; // answers
  server = new grpc.Server(options);
  for (const signal of Object.keys(SIGNALS)) server.addService(root.collector[signal].v1[`${SIGNALS[signal][0]}Service`].service, { Export: handle(signal) });
  const credentials = args.tls.length
    ? grpc.ServerCredentials.createSsl(null, [{ cert_chain: fs.readFileSync(args.tls[0]), private_key: fs.readFileSync(args.tls[1]) }])
    : grpc.ServerCredentials.createInsecure();
  server.bindAsync(`127.0.0.1:${port}`, credentials, (error, bound) => {
    if (error) { console.error(String(error)); process.exit(1); }
    console.log(`listening ${bound}`);
    serve.port = bound;
  });
}
process.on('SIGTERM', () => process.exit(0));
process.on('SIGUSR1', () => server.tryShutdown(() => serve(serve.port)));
serve(0);
