#!/usr/bin/env bash
# timeout: 90 s
# Goal: a second implementation of gRPC, which shares no code with the first, understands a node and is
# understood.
# Method: a node alone; @grpc/grpc-js from npm, with our .proto read at run time, calls it well and
# badly and prints what it got; the node's telemetry file must count the same.
set -u
cd "$(dirname "$0")/../.." || exit 1
B=${B:-build}

for program in node npm; do
	if ! command -v "$program" >/dev/null; then
		echo "$program is not installed"
		exit 77
	fi
done
for program in "$B/blixard-node" "$B/test/support/bin/shm_dump"; do
	if [ ! -x "$program" ]; then
		echo "$program is not built"
		exit 77
	fi
done

work=$(mktemp -d /tmp/blix-grpc-js-XXXXXX)
shm=$(mktemp -d /dev/shm/blix-grpc-js-XXXXXX)
node_pid=
cleanup() {
	[ -z "$node_pid" ] || kill -9 "$node_pid" 2>/dev/null
	rm -rf "$work" "$shm"
}
trap cleanup EXIT

if ! timeout 60 npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$work" @grpc/grpc-js@1 \
	@grpc/proto-loader@0.7 >"$work/npm.log" 2>&1; then
	echo "@grpc/grpc-js cannot be installed: no way to the npm registry?"
	exit 77
fi

port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$B/blixard-node" --id 1 --bind "127.0.0.1:$port" --shm "$shm/node" --data "$work/data" 2>"$work/node.log" &
node_pid=$!

cat >"$work/client.js" <<'JS'
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [address, proto] = process.argv.slice(2);
const Cluster = grpc.loadPackageDefinition(loader.loadSync(proto, { keepCase: true, longs: String })).blixard.Cluster;
const client = new Cluster(address, grpc.credentials.createInsecure());
const deadline = (seconds) => new Date(Date.now() + 1000 * seconds);
const name = (error) => (error ? grpc.status[error.code] : 'OK');

function call(method, request, seconds = 10) {
  return new Promise((resolve) =>
    client[method](request, { deadline: deadline(seconds) }, (error, reply) => resolve([name(error), reply])));
}
function raw(path, bytes) {
  return new Promise((resolve) =>
    client.makeUnaryRequest(path, (x) => x, (x) => x, bytes, { deadline: deadline(10) }, (error) => resolve(name(error))));
}

async function main() {
  for (;;) { // until it leads itself; these are counted as well
    const [code, reply] = await call('HealthCheck', {});
    console.log('HealthCheck', code);
    if (code === 'OK' && reply.healthy) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const [code, status] = await call('GetRaftStatus', {});
  console.log('GetRaftStatus', code === 'OK' && status.state === 'leader' && status.node_id === '1' ? code : 'WRONG');
  for (let i = 0; i < 20; i++) {
    console.log('ProposeTask', (await call('ProposeTask', { key: `k${i}`, value: Buffer.from([0, 255]) }))[0]);
  }
  console.log('ProposeTask', (await call('ProposeTask', {}))[0]);
  console.log('GetTaskStatus', (await call('GetTaskStatus', { task_id: 'none' }))[0]);
  console.log('other', await raw('/blixard.Cluster/Nonsense', Buffer.alloc(0)));
  console.log('HealthCheck', await raw('/blixard.Cluster/HealthCheck', Buffer.from([255, 255])));
  console.log('HealthCheck', await raw('/blixard.Cluster/HealthCheck', Buffer.alloc(5 << 20)));
  client.close();
}
main();
JS
timeout 30 env NODE_PATH="$work/node_modules" node "$work/client.js" "127.0.0.1:$port" proto/blixard_cluster.proto \
	>"$work/seen" 2>"$work/errors" || cat "$work/errors"

cases=0
failed=0
check() { # NAME EXPECTED GOT
	cases=$((cases + 1))
	if [ "$2" = "$3" ]; then
		echo "ok $cases - $1"
	else
		echo "not ok $cases - $1: wanted $2, got $3"
		failed=1
	fi
}
saw() { grep -c -x "$1" "$work/seen"; }
dumped() { "$B/test/support/bin/shm_dump" "$shm/node" 2>/dev/null | sed -n "s/^blixard_$1 //p"; }

check "writes are acknowledged" 20 "$(saw 'ProposeTask OK')"
check "the leader says that it leads" 1 "$(saw 'GetRaftStatus OK')"
check "bad fields are INVALID_ARGUMENT" 1 "$(saw 'ProposeTask INVALID_ARGUMENT')"
check "bytes that do not decode, too" 1 "$(saw 'HealthCheck INVALID_ARGUMENT')"
check "what is not there is NOT_FOUND" 1 "$(saw 'GetTaskStatus NOT_FOUND')"
check "an unknown method is UNIMPLEMENTED" 1 "$(saw 'other UNIMPLEMENTED')"
check "too large a request is RESOURCE_EXHAUSTED" 1 "$(saw 'HealthCheck RESOURCE_EXHAUSTED')"
for method in HealthCheck GetRaftStatus ProposeTask GetTaskStatus other; do
	check "$method is counted as often as it was called" "$(grep -c "^$method " "$work/seen")" \
		"$(dumped "grpc_requests_total{method=\"$method\"}")"
done
check "the refusal of a method is counted" 1 "$(dumped 'grpc_requests_failed_total{method="other",code="UNIMPLEMENTED"}')"
check "and that of a large request" 1 "$(dumped 'grpc_requests_failed_total{method="HealthCheck",code="RESOURCE_EXHAUSTED"}')"
kill "$node_pid"
wait "$node_pid"
check "the node ends cleanly" 0 $?
node_pid=
echo "1..$cases"
exit $failed
