#!/usr/bin/env node
// Servers that misbehave on purpose, on Node's http2, http, tls and net; nothing of ours.
//
//   h2_hostile.js MODE [CERT KEY]
//
// Prints `listening PORT`, and `request N` for each request whose end it saw.
'use strict';
const fs = require('fs');
const http2 = require('http2');
const http = require('http');
const net = require('net');
const tls = require('tls');

const [mode, cert, key] = process.argv.slice(2);
const C = http2.constants;
const GRPC = { ':status': 200, 'content-type': 'application/grpc' };
const EMPTY = Buffer.from([0, 0, 0, 0, 0]);
let n = 0;

function respond(stream, headers, body, trailers) {
  stream.respond(headers, { waitForTrailers: true });
  stream.on('wantTrailers', () => (trailers ? stream.sendTrailers(trailers) : stream.close()));
  stream.end(body);
}
const fine = (stream) => respond(stream, GRPC, EMPTY, { 'grpc-status': '0' });
const reset = (code) => (stream) => stream.close(code);
const trailersOnly = (headers) => (stream) => stream.respond({ ...GRPC, ...headers }, { endStream: true });

const MODES = {
  'trailers-only': trailersOnly({ 'grpc-status': '3', 'grpc-message': 'caf%C3%A9 100%25 %' }),
  // google.rpc.Status{14, RetryInfo 2.5 s}, without and with padding.
  'retryinfo-unpadded': trailersOnly({ 'grpc-status': '14', 'grpc-status-details-bin': status(14).replace(/=+$/, '') }),
  'retryinfo-padded': trailersOnly({ 'grpc-status': '8', 'grpc-status-details-bin': status(8) }),
  'exhausted-without': trailersOnly({ 'grpc-status': '8', 'grpc-message': 'larger than max' }),
  'details-garbage': trailersOnly({ 'grpc-status': '14', 'grpc-status-details-bin': '!!!!' }),
  'status-unknown-number': trailersOnly({ 'grpc-status': '77' }),
  'status-last-wins': (s) => respond(s, { ...GRPC, 'grpc-status': '0' }, EMPTY, { 'grpc-status': '14', 'grpc-message': 'last' }),
  'no-trailers': (s) => respond(s, GRPC, EMPTY, null),
  'html': (s) => respond(s, { ':status': 200, 'content-type': 'text/html' }, '<html>', null),
  'http503': (s) => respond(s, { ':status': 503, 'content-type': 'text/plain', 'retry-after': '7' }, 'no', null),
  'http502': (s) => respond(s, { ':status': 502 }, 'no', null),
  'http401': (s) => respond(s, { ':status': 401 }, 'no', null),
  'rst-internal': reset(C.NGHTTP2_INTERNAL_ERROR),
  'rst-cancel': reset(C.NGHTTP2_CANCEL),
  'rst-calm': reset(C.NGHTTP2_ENHANCE_YOUR_CALM),
  'rst-refused-always': reset(C.NGHTTP2_REFUSED_STREAM),
  'rst-refused-twice': (s) => (n <= 2 ? s.close(C.NGHTTP2_REFUSED_STREAM) : fine(s)),
  'header-bomb': (s) => {
    const headers = { ...GRPC, 'grpc-status': '0' };
    for (let i = 0; i < 400; i++) headers[`x-${i}`] = 'y'.repeat(400);
    s.respond(headers, { endStream: true });
  },
  'body-bomb': (s) => respond(s, GRPC, Buffer.alloc(6 << 20), { 'grpc-status': '0' }),
  'gzip-bomb': (s) => {
    const zipped = require('zlib').gzipSync(Buffer.alloc(64 << 20));
    const head = Buffer.from([1, 0, 0, 0, 0]);
    head.writeUInt32BE(zipped.length, 1);
    respond(s, { ...GRPC, 'grpc-encoding': 'gzip' }, Buffer.concat([head, zipped]), { 'grpc-status': '0' });
  },
  'body-short': (s) => respond(s, GRPC, Buffer.from([0, 0, 0, 9, 9, 1]), { 'grpc-status': '0' }),
  'cut': (s) => s.session.socket.destroy(),
  'goaway-drain': (s) => { if (n === 5) s.session.close(); setTimeout(() => fine(s), 50); },
  // Everything that came after the first stream of a connection is for another connection.
  'goaway-below': (s) => {
    if (s.id === 1 && !s.session.told) {
      s.session.told = true;
      setTimeout(() => { s.session.goaway(C.NGHTTP2_NO_ERROR, 1); fine(s); }, 100);
    } else if (!s.session.told) fine(s);
  },
  // The first stream is answered, what came after it was not looked at; "calm".
  'goaway-calm': (s) => {
    if (s.id !== 1) return;
    setTimeout(() => { s.session.goaway(C.NGHTTP2_ENHANCE_YOUR_CALM, 1); fine(s); }, 200);
  },
  // It has the request, says "calm", and hangs up without an answer.
  'goaway-calm-taken': (s) => { s.session.goaway(C.NGHTTP2_ENHANCE_YOUR_CALM, s.id); setTimeout(() => s.session.destroy(), 100); },
  // HTTP/2 first, then a hang-up before any answer: a server that goes away, not a wrong one.
  'leaves': (s) => { setTimeout(() => s.session.destroy(), 50); },
  'silent': () => {},
};

function status(code) { // base64 of google.rpc.Status{code, details[RetryInfo{2.5 s}]}
  const field = (no, data) => Buffer.concat([Buffer.from([no << 3 | 2, data.length]), data]);
  const delay = Buffer.from([8, 2, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01]);
  const any = Buffer.concat([field(1, Buffer.from('type.googleapis.com/google.rpc.RetryInfo')), field(2, field(1, delay))]);
  return Buffer.concat([Buffer.from([8, code]), field(3, any)]).toString('base64');
}

const secure = cert && { cert: fs.readFileSync(cert), key: fs.readFileSync(key) };
let server;
if (mode === 'http1' || mode === 'tls-h1-only') {
  const answer = (req, res) => { res.writeHead(400); res.end('HTTP/1.1 here'); };
  server = mode === 'http1' ? http.createServer(answer) : require('https').createServer({ ...secure, ALPNProtocols: ['http/1.1'] }, answer);
} else if (mode === 'tls-no-alpn') {
  server = tls.createServer(secure, (socket) => socket.on('error', () => {}));
} else if (mode === 'raw-http1') { // answers like an HTTP/1 server to anything
  server = net.createServer((s) => { s.on('error', () => {}); s.once('data', () => s.end('HTTP/1.1 400 Bad Request\r\n\r\n')); });
} else if (mode === 'reset') { // accepts, and resets what it is sent
  server = net.createServer((s) => { s.on('error', () => {}); s.once('data', () => s.resetAndDestroy()); });
} else if (mode === 'close') {
  server = net.createServer((s) => { s.on('error', () => {}); s.once('data', () => s.end()); });
} else if (mode === 'mute') { // accepts and never says a word
  server = net.createServer((s) => { s.on('error', () => {}); s.resume(); console.log('connection'); });
} else if (mode === 'garbage') {
  server = net.createServer((s) => { s.on('error', () => {}); s.write(Buffer.alloc(4096, 0xa5)); });
} else if (MODES[mode]) {
  const options = { settings: mode === 'rst-refused-twice' ? {} : { maxConcurrentStreams: 100 }, maxSendHeaderBlockLength: 1 << 20 };
  server = secure ? http2.createSecureServer({ ...options, ...secure }) : http2.createServer(options);
  server.on('session', () => console.log('connection'));
  server.on('sessionError', () => {});
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    stream.resume();
    const act = () => { n++; console.log(`request ${n}`); MODES[mode](stream); };
    if (mode.startsWith('rst-')) act(); else stream.on('end', act);
  });
} else {
  console.error(`no such mode: ${mode}`);
  process.exit(2);
}
server.listen(0, '127.0.0.1', () => console.log(`listening ${server.address().port}`));
process.on('SIGTERM', () => process.exit(0));
