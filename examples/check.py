"""Whether a host serves a real ZooKeeper client: `check.py [--forgets] <command…>`, needs kazoo.

In the command, {port} and {data} stand for a free port and an empty directory. The host must take a line
`trap` on standard input for a crash inside. One that --forgets has no directory: it is not killed.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, KazooException, NodeExistsError, RolledBackError

SECONDS_MAX = 30
KILLS = 3


class Host:
    def __init__(self, command, directory):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        data = os.path.join(directory, "data")
        self.command = [word.format(port=self.port, data=data) for word in command]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE)
        wait(lambda: self.word(b"ruok") == b"imok", "imok")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def trap(self):
        self.process.stdin.write(b"trap\n")
        self.process.stdin.flush()

    def word(self, word):
        """Closes its half at once, as nc does: the answer must come all the same."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(word)
                connection.shutdown(socket.SHUT_WR)
                answer = b""
                while more := connection.recv(65536):
                    answer += more
                return answer
        except OSError:
            return None

    def client(self, **options):
        client = KazooClient(f"127.0.0.1:{self.port}", timeout=10, **options)
        client.start(timeout=SECONDS_MAX)
        return client


def wait(ready, what):
    end = time.monotonic() + SECONDS_MAX
    while not ready():
        assert time.monotonic() < end, f"waited {SECONDS_MAX} s for {what}"
        time.sleep(0.02)


def operations(host):
    client, other = host.client(), host.client()
    assert client.create("/a", b"1") == "/a"
    data, stat = client.get("/a")
    assert (data, stat.version) == (b"1", 0)
    seen = []
    other.get("/a", watch=seen.append)
    assert client.set("/a", b"2").version == 1
    wait(lambda: seen, "a watch to fire")
    assert (seen[0].type, seen[0].path) == ("CHANGED", "/a")
    raises(BadVersionError, lambda: client.set("/a", b"3", version=7))
    raises(NodeExistsError, lambda: client.create("/a"))

    client.create("/a/mine", ephemeral=True)
    names = [client.create("/a/s-", sequence=True) for _ in range(3)]
    assert names == [f"/a/s-{number:010}" for number in (1, 2, 3)]
    assert sorted(other.get_children("/a")) == ["mine", "s-0000000001", "s-0000000002", "s-0000000003"]
    client.stop()
    client.close()
    wait(lambda: not other.exists("/a/mine"), "an ephemeral to go with its session")

    multi = other.transaction()
    multi.create("/b", b"x")
    multi.check("/a", 1)
    multi.delete("/a/s-0000000001")
    assert not any(isinstance(result, KazooException) for result in multi.commit())
    multi = other.transaction()
    multi.create("/c")
    multi.check("/a", 7)
    results = multi.commit()
    assert isinstance(results[0], RolledBackError) and isinstance(results[1], BadVersionError)
    assert not other.exists("/c")
    close(other)


def recipes(host):
    first, second = host.client(), host.client()
    mine, its = first.Lock("/lock", "first"), second.Lock("/lock", "second")
    assert mine.acquire()
    assert not its.acquire(blocking=False)
    assert its.contenders() == ["first"]
    taken = threading.Thread(target=lambda: its.acquire(timeout=SECONDS_MAX))
    taken.start()
    wait(lambda: mine.contenders() == ["first", "second"], "the second to queue")
    mine.release()
    taken.join()
    assert its.is_acquired
    its.release()
    close(first, second)


def much(host):
    """More than a server holds for one connection: it must pause, and go on."""
    client = host.client()
    megabyte = bytes(range(256)) * 4000
    client.create("/much", megabyte)
    gets = [client.get_async("/much") for _ in range(100)]
    assert all(get.get(timeout=SECONDS_MAX)[0] == megabyte for get in gets)
    # Not beside them: kazoo reads nothing while it writes.
    sets = [client.set_async("/much", megabyte) for _ in range(20)]
    assert [done.get(timeout=SECONDS_MAX).version for done in sets] == list(range(1, 21))
    client.delete("/much")
    assert b"standalone" in host.word(b"srvr") and b"zk_packets_received" in host.word(b"mntr")
    close(client)


def survives(host, hurt):
    """What was acknowledged is there afterwards, and so is the session with its ephemeral."""
    client = host.client(command_retry={"max_tries": -1}, connection_retry={"max_tries": -1})
    base = client.create("/w-", sequence=True)
    client.create(f"{base}/mine", ephemeral=True)
    session = client.client_id[0]
    asked, answered, stop = [], [], threading.Event()

    def write():
        while not stop.is_set():
            name = f"{base}/{len(asked)}"
            asked.append(name)
            try:
                answered.append(client.create(name, bytes(100)))
            except KazooException:
                pass
            except Exception as error:  # The connection's loss, which kazoo has many words for.
                assert "onnection" in repr(error) + str(type(error)), repr(error)

    writer = threading.Thread(target=write)
    writer.start()
    wait(lambda: len(answered) > 300, "writes")
    before = len(answered)
    hurt()
    wait(lambda: len(answered) > before + 100, "writes after it")
    stop.set()
    writer.join()
    there = {f"{base}/{name}" for name in client.get_children(base)}
    assert there >= set(answered), f"lost: {sorted(set(answered) - there)}"
    assert there <= set(asked) | {f"{base}/mine"}
    assert client.client_id[0] == session and f"{base}/mine" in there
    close(client)
    return len(answered)


def raises(error, call):
    try:
        call()
    except error:
        return
    raise AssertionError(f"expected {error}")


def close(*clients):
    for client in clients:
        client.stop()
        client.close()


def main():
    arguments = sys.argv[1:]
    forgets = arguments[0] == "--forgets"
    directory = tempfile.mkdtemp(prefix="zabra-example-")
    host = Host(arguments[forgets:], directory)

    def kill():
        host.kill()
        host.start()

    try:
        host.start()
        operations(host)
        recipes(host)
        much(host)
        print(f"a trap: {survives(host, host.trap)} writes were acknowledged, and are there")
        for _ in range(0 if forgets else KILLS):
            print(f"kill -9: {survives(host, kill)} writes were acknowledged, and are there")
        assert host.process.poll() is None, "the host has ended by itself"
    finally:
        host.kill()
        shutil.rmtree(directory)


main()
