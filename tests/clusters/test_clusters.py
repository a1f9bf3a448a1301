"""The clusters: they form, a node's death is seen, it comes back with what it had."""

import contextlib

import pytest

from tests.clusters.rabbit_cluster import RabbitCluster
from tests.clusters.redis_cluster import RedisCluster

__all__: list[str] = []

DECLARE = """
Name = rabbit_misc:r(<<"/">>, queue, <<"boxes">>),
element(1, rabbit_amqqueue:declare(Name, true, false, [{<<"x-queue-type">>, longstr, <<"quorum">>}], none, <<"test">>)).
"""


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_redis_keys_are_where_node_of_says_also_after_a_kill(redis_cluster: RedisCluster) -> None:
    keys = [f"mailbox-{number}" for number in range(30)]
    for key in keys:
        assert redis_cluster.node_of(key).call("SET", key, f"value of {key}") == "+OK"
    assert {redis_cluster.node_of(key).port for key in keys} == {node.port for node in redis_cluster.nodes}
    victim = redis_cluster.node_of(keys[0])
    victim.kill()
    assert redis_cluster.node_of(keys[0]) is victim
    victim.start()
    redis_cluster.await_whole()
    assert [redis_cluster.node_of(key).call("GET", key) for key in keys] == [f"value of {key}" for key in keys]


@pytest.mark.fault
def test_a_quorum_queue_has_another_leader_after_its_leader_is_killed(rabbit_cluster: RabbitCluster) -> None:
    assert rabbit_cluster.alive.ctl("eval", DECLARE) == "new"
    first = rabbit_cluster.leader_of("boxes")
    first.kill()

    def moved() -> bool:
        with contextlib.suppress(AssertionError):
            return rabbit_cluster.leader_of("boxes") is not first
        return False

    rabbit_cluster.alive.await_that(moved, 30, "elect another leader")
    first.start()
    rabbit_cluster.await_whole()
    rabbit_cluster.alive.ctl("delete_queue", "boxes")
