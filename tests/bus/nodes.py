"""Several redis-servers that stand in for each other: a master that Sentinel watches, and a cluster."""

import subprocess

import redis
from tests.bus.servers import Broker
from tests.programs import program
from tests.serving import until

from online.bus.redisbus import STREAM


def agree(is_so):
    """Wait until the nodes agree that something is so."""
    return until(is_so, redis.RedisError)


def bus_port(node):
    return node.port + 10_000 if node.port < 50_000 else node.port - 10_000


class Watched:
    """A master with a replica, and a Sentinel that watches both."""

    def __init__(self, directory, *, password=None):
        """`password` is that of the Sentinel."""
        self._sentinel, self._password = None, password
        self._brokers = []
        for name in ("first", "second"):
            (directory / name).mkdir()
            self._brokers.append(Broker(directory / name, "--repl-diskless-sync-delay", "0"))
        self.master, self.replica = self._brokers
        self._watcher = Broker(directory, password=password)
        self.url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self._watcher.port}/hits"
        self._config = directory / "sentinel.conf"

    def start(self):
        self.master.start()
        self.replica.start("--replicaof", "127.0.0.1", str(self.master.port))
        agree(lambda: self.replica.client.info("replication")["master_link_status"] == "up")
        self._config.write_text(
            f"port {self._watcher.port}\nbind 127.0.0.1\nsentinel monitor hits 127.0.0.1 {self.master.port} 1\n"
            "sentinel down-after-milliseconds hits 300\nsentinel failover-timeout hits 2000\n"
            + (f"requirepass \"{self._password}\"\n" if self._password else "")
        )
        words = [program("redis-server"), str(self._config), "--sentinel"]
        self._sentinel = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        agree(lambda: len(self._watcher.client.sentinel_slaves("hits")) == 1)
        return self

    def fail(self):
        """Kill the master and wait until its replica has taken over."""
        self.master.kill()
        agree(lambda: self.replica.client.info("replication")["role"] == "master")

    def close(self):
        if self._sentinel is not None:
            self._sentinel.kill()
            self._sentinel.wait()
        for each in (*self._brokers, self._watcher):
            each.close()


class Cluster:
    """Three masters, each with a third of the slots; the one that has the stream has a replica."""

    def __init__(self, directory):
        self._nodes = []
        for number in range(4):
            (directory / str(number)).mkdir()
            options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "500")
            self._nodes.append(Broker(directory / str(number), *options, "--repl-diskless-sync-delay", "0"))
        self.url = f"redis+cluster://127.0.0.1:1,{','.join(f'127.0.0.1:{node.port}' for node in self._nodes[:3])}"

    def start(self):
        for node in self._nodes:
            node.start("--cluster-port", str(bus_port(node)))
        masters = self._nodes[:3]
        self.slot = masters[0].client.cluster("KEYSLOT", STREAM)
        for epoch, (node, first, last) in enumerate(zip(masters, (0, 5461, 10923), (5460, 10922, 16383), strict=True)):
            node.client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            node.client.execute_command("CLUSTER SET-CONFIG-EPOCH", epoch + 1)
            if first <= self.slot <= last:
                self.owner = node
        self.other = next(node for node in masters if node is not self.owner)
        for node in self._nodes[1:]:
            masters[0].client.execute_command("CLUSTER MEET", "127.0.0.1", node.port, bus_port(node))
        agree(self._is_whole)
        spare = self._nodes[3].client
        spare.execute_command("CLUSTER REPLICATE", self._id(self.owner))
        agree(lambda: spare.info("replication")["master_link_status"] == "up")
        agree(lambda: all(len(self._replicas(node)) == 1 for node in masters))
        return self

    def _is_whole(self):
        views = [node.client.execute_command("CLUSTER INFO") for node in self._nodes]
        return all((view["cluster_state"], view["cluster_known_nodes"]) == ("ok", "4") for view in views)

    def _id(self, node):
        return node.client.execute_command("CLUSTER MYID").decode()

    def _replicas(self, node):
        return node.client.execute_command("CLUSTER REPLICAS", self._id(self.owner))

    def move(self):
        """Move the slot of the stream, as redis-cli --cluster reshard does."""
        source, target = self._id(self.owner), self._id(self.other)
        self.other.client.execute_command("CLUSTER SETSLOT", self.slot, "IMPORTING", source)
        self.owner.client.execute_command("CLUSTER SETSLOT", self.slot, "MIGRATING", target)
        while keys := self.owner.client.cluster("GETKEYSINSLOT", self.slot, 10):
            self.owner.client.execute_command("MIGRATE", "127.0.0.1", self.other.port, "", 0, 5000, "KEYS", *keys)
        for node in (self.other, self.owner):
            node.client.execute_command("CLUSTER SETSLOT", self.slot, "NODE", target)

    def fail(self):
        """Kill the node that has the stream, and wait until its replica has taken over."""
        self.owner.kill()
        agree(lambda: self._nodes[3].client.info("replication")["role"] == "master")
        agree(lambda: self._nodes[3].client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")

    def close(self):
        for node in self._nodes:
            node.close()
