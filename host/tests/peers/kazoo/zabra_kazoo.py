"""Lets kazoo's own test-suite run against any server that starts from a zoo.cfg.

A pytest plugin (`pytest -p zabra_kazoo --pyargs kazoo.tests`). kazoo's harness builds a Java command line
itself; this replaces only the part that writes the configuration and starts the process. The rest of the
harness (one cluster per test class, restarts, fresh directories) stays as kazoo ships it.

The environment tells it what to do:

PEERS_KAZOO_SERVER    the command, as a JSON list; the path of the zoo.cfg is appended
PEERS_KAZOO_EXPECTED  the list of tests, see expected.txt
PEERS_KAZOO_SERVERS   how many servers an ensemble has, default 1: one that stands alone
PEERS_KAZOO_SHARD     "i/n": run only the i-th of n parts (whole classes), default everything
"""

import atexit
import collections
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import types

# The harness makes TLS certificates with these two. Both pull in C extensions, so they are left out, and
# OpenSSL's command makes them.
for _name in ("OpenSSL", "jks"):
    sys.modules.setdefault(_name, types.ModuleType(_name))

REQUIRED = "required"
# Run with an ensemble only, as the rest is too.
REQUIRED_OF_SEVERAL = "required: several servers"
SERVERS = int(os.environ.get("PEERS_KAZOO_SERVERS", "1"))
PORTS = 5 * max(SERVERS, 1)
# Section headings of expected.txt whose tests are not run; the reason is the rest of the heading.
NOT_RUN = ("later", "not passed by Apache ZooKeeper")
DEADLINE_SECONDS = 30


def _free_port_base():
    """The first of adjacent free ports, five for each server, below the range the kernel hands out by itself."""
    for base in range(20000 + os.getpid() * PORTS % 10000, 30000, PORTS):
        try:
            for port in range(base, base + PORTS):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
    raise RuntimeError("no adjacent free ports between 20000 and 30000")


os.environ["ZOOKEEPER_CLUSTER_SIZE"] = str(SERVERS)
os.environ.setdefault("ZOOKEEPER_PORT_OFFSET", str(_free_port_base()))
os.environ.setdefault("ZOOKEEPER_VERSION", "3.8.0")
# kazoo turns the tests of its build environment on by this, and trusts ZOOKEEPER_VERSION only with it.
os.environ["CI"] = "true"

from kazoo.testing import common  # noqa: E402  (after its imports have been provided for)


def _write_config(server):
    data = os.path.join(server.working_path, "data")
    os.makedirs(data, exist_ok=True)
    lines = [
        "tickTime=2000",
        "dataDir=" + data,
        "clientPort=%d" % server.client_port,
        "clientPortAddress=127.0.0.1",
        "maxClientCnxns=0",
        "admin.enableServer=false",
        "secureClientPort=%d" % server.secure_client_port,
        "secureClientPortAddress=127.0.0.1",
        "ssl.keyStore.location=" + server.ssl_configuration["server_pem"],
        "ssl.trustStore.location=" + server.ssl_configuration["ca_pem"],
        # Apache ZooKeeper needs it for TLS.
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
        *server.configuration_entries,
    ]
    if server.peers:
        members = sorted((server.server_info, *server.peers), key=lambda member: member.server_id)
        lines += ["initLimit=4", "syncLimit=2", "readonlymode.enabled=true"]
        lines += ["peerType=" + server.server_info.peer_type]
        lines += [
            "server.%s=localhost:%s:%s:%s"
            % (member.server_id, member.leader_port, member.election_port, member.peer_type)
            for member in members
        ]
        with open(os.path.join(data, "myid"), "w") as myid:
            myid.write(str(server.server_info.server_id))
    # Any key that does not know becomes the system property zookeeper.<key>.
    for flag in server.java_system_properties:
        key, _, value = flag.partition("=")
        lines.append(key.removeprefix("-Dzookeeper.") + "=" + value)
    # Found beside zoo.cfg without being named; only tests of SASL have one.
    if server.jaas_config:
        with open(os.path.join(server.working_path, "jaas.conf"), "w") as jaas:
            jaas.write(server.jaas_config)
    path = os.path.join(server.working_path, "zoo.cfg")
    with open(path, "w") as config:
        config.write("\n".join(lines) + "\n")
    return path


def _serves(port):
    """An open port is not enough: Apache ZooKeeper takes connections, and drops them, before it can serve."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"srvr")
            return b"Zxid: " in connection.makefile("rb").read()
    except OSError:
        return False


def _run(server):
    if server.running:
        return
    config = _write_config(server)
    command = json.loads(os.environ["PEERS_KAZOO_SERVER"]) + [config]
    # Each ZABRA_ variable is a setting of our server; the tests' own are all in the file.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZABRA_")}
    with open(os.path.join(server.working_path, "zookeeper.log"), "ab") as log:
        server.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    server._running = True
    # One of several may wait for the others.
    if not server.peers:
        _await(server)


def _await(server):
    end = time.monotonic() + DEADLINE_SECONDS
    while not _serves(server.client_port):
        if server.process.poll() is not None or time.monotonic() > end:
            raise RuntimeError("a server did not start:\n" + "".join(server.get_logs()))
        time.sleep(0.02)


def _start(cluster):
    # The harness sleeps two seconds here.
    for server in cluster:
        server.run()
    for server in cluster:
        _await(server)


def _openssl(*arguments):
    subprocess.run(("openssl",) + arguments, check=True, stderr=subprocess.DEVNULL)


@functools.cache
def _certificates():
    """An authority, a server and a client, once for all tests."""
    home = tempfile.mkdtemp(prefix="zabra-kazoo-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    ca_key, ca = os.path.join(home, "ca.key"), os.path.join(home, "ca.pem")
    new_key = ("-newkey", "rsa:2048", "-nodes")
    _openssl("req", "-x509", *new_key, "-subj", "/CN=kazoo ca", "-keyout", ca_key, "-out", ca)
    found = {"ca_pem": ca}
    for name in ("server", "client"):
        key, cert, request = (os.path.join(home, name + end) for end in (".key", ".crt", ".csr"))
        _openssl("req", *new_key, "-subj", "/CN=localhost", "-keyout", key, "-out", request)
        signed_by = ("-CA", ca, "-CAkey", ca_key, "-CAcreateserial")
        # With an extension, for certificates without any are of a version that is not believed.
        extensions = os.path.join(home, "extensions")
        with open(extensions, "w") as file:
            file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        _openssl("x509", "-req", "-in", request, *signed_by, "-extfile", extensions, "-out", cert)
        both = os.path.join(home, name + ".pem")
        with open(key, "rb") as key, open(cert, "rb") as cert, open(both, "wb") as file:
            found[name + "_key_pem"], found[name + "_cert_pem"] = key.read(), cert.read()
            file.write(found[name + "_key_pem"] + found[name + "_cert_pem"])
        found[name + "_pem"] = both
    with open(ca, "rb") as file:
        found["ca_cert_pem"] = file.read()
    return found


def _certify(cluster):
    cluster._ssl_configuration = _certificates()


common.ManagedZooKeeper.run = _run
common.ZookeeperCluster.start = _start
common.ZookeeperCluster.perform_ssl_certs_generation = _certify


def _name(item):
    """test_lock.py::KazooLockTests::test_lock: without what depends on where kazoo is installed."""
    return item.nodeid.rpartition("kazoo/tests/")[2]


def _read_expected(path):
    """Section heading -> set of test names."""
    sections = collections.OrderedDict()
    names = None
    with open(path) as lines:
        for line in lines:
            line = line.strip()
            if line.startswith("[") and line.endswith("]"):
                names = sections.setdefault(line[1:-1], set())
            elif line and not line.startswith("#"):
                names.add(line)
    return sections


# Classes that mostly sleep, in tests' worth of time.
_SLEEPY = {
    "test_partitioner.py::KazooPartitionerTests": 200,
    "test_selectors_select.py::SelectTestCase": 120,
    "test_watchers.py::KazooChildrenWatcherTests": 160,
}


def _shard(items):
    """Whole classes, as each starts its server, dealt so that the parts take about as long."""
    index, count = (int(part) for part in os.environ.get("PEERS_KAZOO_SHARD", "0/1").split("/"))
    classes = collections.Counter(_name(item).rpartition("::")[0] for item in items)
    classes.update({name: extra for name, extra in _SLEEPY.items() if name in classes})
    parts = [set() for _ in range(count)]
    sizes = [0] * count
    for name, size in sorted(classes.items(), key=lambda entry: (-entry[1], entry[0])):
        smallest = sizes.index(min(sizes))
        parts[smallest].add(name)
        sizes[smallest] += size
    return [item for item in items if _name(item).rpartition("::")[0] in parts[index]]


class _Gate:
    """Selects the required tests and lets none of them go missing unnoticed."""

    def __init__(self, expected):
        self.expected = expected
        self.problems = []

    def pytest_collection_modifyitems(self, config, items):
        required = self.expected.get(REQUIRED, set())
        if SERVERS > 1:
            required = required | self.expected.get(REQUIRED_OF_SEVERAL, set())
        known = set().union(*self.expected.values())
        collected = {_name(item) for item in items}
        for section in self.expected:
            if section not in (REQUIRED, REQUIRED_OF_SEVERAL) and not section.startswith(NOT_RUN):
                self.problems.append("expected.txt: unknown section [%s]" % section)
        if config.getoption("keyword") == "" and not config.getoption("deselect"):
            self.problems += ["in expected.txt but not in kazoo: " + n for n in sorted(known - collected)]
        self.problems += ["in kazoo but not in expected.txt: " + n for n in sorted(collected - known)]
        chosen = _shard([item for item in items if _name(item) in required])
        picked = set(chosen)
        config.hook.pytest_deselected(items=[item for item in items if item not in picked])
        items[:] = chosen

    def pytest_runtest_logreport(self, report):
        if report.skipped:
            self.problems.append("required but skipped itself: " + report.nodeid)

    def pytest_sessionfinish(self, session):
        if self.problems and session.exitstatus == 0:
            session.exitstatus = 1

    def pytest_terminal_summary(self, terminalreporter):
        for problem in self.problems:
            terminalreporter.write_line("FAILED " + problem)


def pytest_configure(config):
    path = os.environ.get("PEERS_KAZOO_EXPECTED")
    if path:
        config.pluginmanager.register(_Gate(_read_expected(path)), "zabra-gate")
