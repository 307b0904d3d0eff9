"""LTTng's session daemon for the length of a benchmark, from build/tools, never installed.

Flight-recorder mode: the consumer takes nothing away and old events give way, as our ring does while
nobody listens. The daemon's directories are temporary; as root it uses /run/lttng whatever it is
told, so a daemon that is there already is left alone and the peer is left out.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time

START_S = 20


class Missing(Exception):
    pass


@contextlib.contextmanager
def session(tools, provider):
    """Environment of a program whose events of `provider` are recorded."""
    tools = os.path.abspath(tools)
    daemon, control = (os.path.join(tools, "usr/bin", name) for name in ("lttng-sessiond", "lttng"))
    libraries = os.path.join(tools, "usr/lib/x86_64-linux-gnu")
    if not os.path.exists(daemon):
        raise Missing("lttng-tools is not unpacked in build/tools: make deps")
    if os.geteuid() == 0 and os.path.exists("/run/lttng"):
        raise Missing("/run/lttng belongs to another session daemon")
    home = tempfile.mkdtemp(prefix="blixard-lttng-")
    env = dict(os.environ, LD_LIBRARY_PATH=libraries, LTTNG_HOME=home, LTTNG_UST_REGISTER_TIMEOUT="10000",
               LTTNG_SESSION_CONFIG_XSD_PATH=os.path.join(tools, "usr/share/xml/lttng"))

    def lttng(*words):
        done = subprocess.run([control, "--no-sessiond", *words], env=env, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, (done.stdout + done.stderr).strip()

    def must(*words):
        code, said = lttng(*words)
        if code:
            raise Missing(f"lttng {words[0]}: {said[-200:]}")

    with open(os.path.join(home, "log"), "w", encoding="utf-8") as log:
        consumer = os.path.join(libraries, "lttng/libexec/lttng-consumerd")
        process = subprocess.Popen([daemon, "--no-kernel", f"--consumerd64-path={consumer}", f"--consumerd64-libdir={libraries}"],
                                   env=env, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_S
        while lttng("list")[0]:
            if process.poll() is not None or time.monotonic() > deadline:
                with open(os.path.join(home, "log"), encoding="utf-8") as log:
                    raise Missing(f"lttng-sessiond does not answer: {log.read()[-200:]}")
            time.sleep(0.1)
        must("create", "bench", "--snapshot", f"--output={home}/out")
        must("enable-channel", "--userspace", "--session=bench", "--subbuf-size=1M", "--num-subbuf=4", "chan")
        must("enable-event", "--userspace", "--session=bench", "--channel=chan", f"{provider}:*")
        must("start", "bench")
        yield env
        lttng("destroy", "bench")
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(home, ignore_errors=True)
        if os.geteuid() == 0:
            shutil.rmtree("/run/lttng", ignore_errors=True)
