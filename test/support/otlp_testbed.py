"""Start and stop OTLP receivers for a test, order them about, read what they wrote down.

    with Bed() as bed:
        r = bed.grpc(protos=bed.official())
        bed.order(r, mode="status", code=14)
        answers = bed.send(r, count=3)

What cannot be had here (npm's registry, node) is a Skip, which main() turns into exit code 77.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
VERIFIERS = os.path.join(ROOT, "test/verifiers")
BUILD = os.path.join(ROOT, os.environ.get("B", "build"))
PROMOTEL = "@platformatic/promotel@0.2.2"
GRPC_JS = ("@grpc/grpc-js@1.14.7", "@grpc/proto-loader@0.8.1")
DEADLINE_S = 30


class Skip(Exception):
    pass


def wait_for(what, condition, deadline_s=DEADLINE_S):
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        got = condition()
        if got:
            return got
        time.sleep(0.02)
    raise AssertionError(f"not within {deadline_s} s: {what}")


class Receiver:
    def __init__(self, bed, name, command, tls=False):
        self.bed, self.name, self.tls = bed, name, tls
        self.log = os.path.join(bed.dir, f"{name}.log")
        self.control, self.record, self.summary_path = (os.path.join(bed.dir, f"{name}.{e}") for e in ("control", "record", "summary"))
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command(self), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self.port = wait_for(f"{name} listens:\n{self.text()}", lambda: self.listening(1))

    def text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def listening(self, times):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended:\n{self.text()}")
        ports = [line.split()[1] for line in self.text().splitlines() if line.startswith("listening ")]
        return int(ports[-1]) if len(ports) >= times else None

    def url(self, host="127.0.0.1", path=""):
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{path}"

    def lines(self, kind=None):
        if not os.path.exists(self.record):
            return []
        with open(self.record, encoding="utf-8") as f:
            lines = [json.loads(line) for line in f if line.endswith("\n")]
        return [line for line in lines if kind in (None, line["kind"])]

    def summary(self):
        """What it has counted so far; half a second old."""
        if not os.path.exists(self.summary_path):
            return {}
        with open(self.summary_path, encoding="utf-8") as f:
            return json.load(f)

    def order(self, **what):
        with open(self.control + ".new", "w", encoding="utf-8") as f:
            json.dump(what, f)
        os.rename(self.control + ".new", self.control)

    def drain(self):
        self.process.send_signal(signal.SIGUSR1)

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


class Bed:
    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="blix-otlp-")
        self.receivers, self.modules = [], None
        return self

    def __exit__(self, *_):
        for receiver in self.receivers:
            receiver.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def npm(self, *packages):
        if not shutil.which("npm") or not shutil.which("node"):
            raise Skip("node and npm are not installed")
        modules = os.path.join(self.dir, "npm")
        done = subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", modules, *packages],
                              capture_output=True, timeout=120, check=False)
        if done.returncode:
            raise Skip(f"{packages[0]} cannot be installed: no way to the npm registry?")
        return os.path.join(modules, "node_modules")

    def official(self):
        """The folder of the official .proto files."""
        if not shutil.which("protoc"):
            raise Skip("protoc is not installed")
        self.modules = self.modules or self.npm(PROMOTEL, *GRPC_JS)
        return os.path.join(self.modules, "@platformatic/promotel/proto")

    def _start(self, name, command, tls):
        receiver = Receiver(self, f"{name}{len(self.receivers)}", command, tls)
        self.receivers.append(receiver)
        return receiver

    def _python(self, script, protos, tls, client_ca, more):
        def command(r):
            line = ["/usr/bin/python3", os.path.join(VERIFIERS, script), "--protos", protos, "--control", r.control,
                    "--record", r.record, "--summary", r.summary_path, *more]
            return line + (["--tls", *tls] if tls else []) + (["--client-ca", client_ca] if client_ca else [])
        return self._start(script.split(".")[0], command, bool(tls))

    def grpc(self, protos="ours", tls=None, client_ca=None, more=()):
        return self._python("otlp_grpc.py", protos, tls, client_ca, more)

    def grpcjs(self, tls=None, more=()):
        """The second gRPC receiver; official protos only, at most 4 streams at once unless told."""
        protos = self.official()

        def command(r):
            return ["env", f"NODE_PATH={self.modules}", "node", os.path.join(VERIFIERS, "otlp_grpcjs.js"), "--protos", protos,
                    "--control", r.control, "--record", r.record, *(("--tls", *tls) if tls else ()), *more]
        return self._start("otlp_grpcjs", command, bool(tls))

    def http(self, protos="ours", tls=None, client_ca=None, more=()):
        return self._python("otlp_http.py", protos, tls, client_ca, more)

    def hostile(self, mode, tls=None):
        if not shutil.which("node"):
            raise Skip("node is not installed")
        command = ["node", os.path.join(VERIFIERS, "h2_hostile.js"), mode, *(tls or ())]
        return self._start("hostile", lambda _: command, bool(tls))

    def certificates(self):
        """{ca, cert, key, client_cert, client_key, other_ca}: made now, valid for a day. And three that
        must be refused, each of which is right but for one thing: other_host (its name), expired (its
        time), self_signed (its issuer), all with the key `bad_key`."""
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        here = "subjectAltName=DNS:localhost,IP:127.0.0.1"

        def openssl(*args):
            subprocess.run(["openssl", *args], cwd=self.dir, check=True, capture_output=True)

        def sign(csr, to, san, *valid):
            with open(os.path.join(self.dir, "ext"), "w", encoding="utf-8") as f:
                f.write(san + "\n")
            openssl("x509", "-req", "-in", csr, "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "ext", "-out", to, *valid)
        for ca in ("ca", "other_ca"):
            openssl("req", "-x509", *curve, "-days", "1", "-subj", f"/CN=test {ca}", "-keyout", f"{ca}.key", "-out", f"{ca}.pem")
        for name in ("server", "client", "bad"):
            openssl("req", *curve, "-subj", f"/CN=test {name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        sign("server.csr", "server.pem", here, "-days", "1")
        sign("client.csr", "client.pem", here, "-days", "1")
        sign("bad.csr", "other_host.pem", "subjectAltName=DNS:elsewhere.invalid,IP:127.0.0.2", "-days", "1")
        sign("bad.csr", "expired.pem", here, "-days", "-1")
        openssl("x509", "-req", "-in", "bad.csr", "-signkey", "bad.key", "-days", "1", "-extfile", "ext", "-out", "self_signed.pem")
        made = {"cert": "server.pem", "key": "server.key", "client_cert": "client.pem", "client_key": "client.key", "bad_key": "bad.key"}
        made |= {name: f"{name}.pem" for name in ("ca", "other_ca", "other_host", "expired", "self_signed")}
        return {name: os.path.join(self.dir, file) for name, file in made.items()}

    def body(self, spans=1, name="test", pad=0):
        """An ExportTraceServiceRequest in a file; span ids are random."""
        sys.path.insert(0, VERIFIERS)
        from otlp_protos import Protos
        request = Protos("ours").request("trace")()
        group = request.resource_spans.add()
        pair = group.resource.attributes.add(key="service.name")
        pair.value.string_value = "transport-test"
        scope = group.scope_spans.add()
        for _ in range(spans):
            span = scope.spans.add(trace_id=os.urandom(16), span_id=os.urandom(8), name=name + "x" * pad)
            span.start_time_unix_nano, span.end_time_unix_nano = 1, 2
        path = os.path.join(self.dir, f"body{time.monotonic_ns()}")
        with open(path, "wb") as f:
            f.write(request.SerializeToString())
        return path

    def sender(self, url, *more, env=None, before=(), **options):
        """The running transport_send; options as its own, with underscores."""
        program = os.path.join(BUILD, "test/support/bin/transport_send")
        if not os.access(program, os.X_OK):
            raise Skip(f"{program} is not built")
        command = [*before, program, "--url", url, *more]
        for key, value in options.items():
            command += [f"--{key.replace('_', '-')}"] + ([] if value is True else [str(value)])
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=os.environ | (env or {}))

    def finish(self, process, deadline_s=60):
        """Its verdicts; each request must have been answered exactly once and no descriptor left."""
        try:
            out, err = process.communicate(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise AssertionError(f"the sender did not end within {deadline_s} s") from None
        if process.returncode not in (0, 4):
            raise AssertionError(f"the sender ended with {process.returncode}: {err}")
        self.said = err
        return [json.loads(line) for line in out.splitlines()]

    def send(self, url, *more, env=None, deadline_s=60, **options):
        return self.finish(self.sender(url, *more, env=env, **options), deadline_s)


def main(cases):
    """Run each function of `cases` with one bed; its docstring's first line is the case's name."""
    failed = 0
    for number, case in enumerate(cases, 1):
        name = case.__doc__.splitlines()[0]
        try:
            with Bed() as bed:
                case(bed)
            print(f"ok {number} - {name}", flush=True)
        except Skip as why:
            print(f"ok {number} - {name} # skip {why}", flush=True)
        except Exception as error:  # a case that breaks is a case that failed
            failed += 1
            print(f"not ok {number} - {name}: {type(error).__name__}: {str(error)[:600]}", flush=True)
    print(f"1..{len(cases)}")
    return 1 if failed else 0


def expect(got, **wanted):
    """One verdict, field by field; message by containment."""
    for key, value in wanted.items():
        ok = value in got[key] if key == "message" else got[key] in value if isinstance(value, (set, tuple, range)) else got[key] == value
        if not ok:
            raise AssertionError(f"{key}: wanted {value!r}, got {got}")


def check_refused_certificates(bed, start, path=""):
    """A server's certificate that is wrong in one thing is refused with that thing as the reason, however
    the host is written; the same server with the right certificate is accepted."""
    c = bed.certificates()
    for name, word in (("other_host", ("mismatch", "match")), ("expired", ("expired",)), ("self_signed", ("self-signed", "self signed"))):
        r = start(tls=(c[name], c["bad_key"]))
        for host in ("localhost", "127.0.0.1"):
            got = bed.send(r.url(host, path), protocol=start.__name__, ca=c["ca"], body=bed.body())[0]
            expect(got, verdict="config_error", code=-1)
            if not any(w in got["message"] for w in word):
                raise AssertionError(f"{name} by {host}: {got}")
        if r.lines("request"):
            raise AssertionError(f"{name}: the request reached a server that was not to be trusted")
    r = start(tls=(c["cert"], c["key"]))
    expect(bed.send(r.url("localhost", path), protocol=start.__name__, ca=c["ca"], body=bed.body())[0], verdict="accepted")
    # Without --ca the system's authorities decide, and they do not know ours.
    expect(bed.send(r.url("localhost", path), protocol=start.__name__, body=bed.body())[0], verdict="config_error")
    # ... until it is told of it; and the file is opened once, before anybody is connected to.
    expect(bed.send(r.url("localhost", path), protocol=start.__name__, body=bed.body(), env={"SSL_CERT_FILE": c["ca"]})[0], verdict="accepted")
    if not shutil.which("strace"):
        raise Skip("strace is not installed, which shows that handshakes open no file; the certificates themselves were judged well")
    trace = os.path.join(bed.dir, "trace")
    p = bed.sender(r.url("127.0.0.1", path), protocol=start.__name__, body=bed.body(), count=3, before=("strace", "-f", "-o", trace, "-e", "trace=open,openat,connect"),
                   env={"SSL_CERT_FILE": c["ca"]})
    if [v["verdict"] for v in bed.finish(p)] != ["accepted"] * 3:
        raise AssertionError("not accepted under strace")
    with open(trace, encoding="utf-8", errors="replace") as f:
        calls = f.read().splitlines()
    connected = next(i for i, line in enumerate(calls) if "connect(" in line and "sin_port" in line)
    late = [line for line in calls[connected:] if "open" in line and ("ssl" in line or ".pem" in line or ".crt" in line)]
    if sum(c["ca"] in line for line in calls) != 1 or late:
        raise AssertionError(f"certificates opened: {late or [line for line in calls if c['ca'] in line]}")
