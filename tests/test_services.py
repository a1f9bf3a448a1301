"""The servers that tests start for themselves: what is confirmed outlives kill -9; paused ones are silent."""

import pytest

from tests.clusters.process import OwnServer
from tests.clusters.wire import redis_answers
from tests.services import AMQP_VARIABLE, REDIS_VARIABLE, StartRabbit, StartRedis, amqp_url, redis_url

__all__: list[str] = []


def test_the_environment_wins_and_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(AMQP_VARIABLE, "amqp://u:p@broker.example/")
    monkeypatch.setenv(REDIS_VARIABLE, "rediss://redis.example/1")
    assert (amqp_url().url, redis_url().url) == ("amqp://u:p@broker.example/", "rediss://redis.example/1")


def test_the_shared_redis_answers_or_is_skipped_with_the_reason(redis: str) -> None:
    assert redis.startswith("redis")


def test_the_virtual_host_is_the_sessions_own_or_what_was_named(amqp: str, amqp_vhost: str) -> None:
    assert amqp_vhost.rpartition("/")[0] == amqp.rpartition("/")[0]


@pytest.mark.smoke
def test_redis_keeps_its_port_and_what_it_confirmed(own_redis: StartRedis) -> None:
    redis = own_redis()
    redis.call("SET", "key", "value")
    port, pid = redis.port, redis.pid
    redis.kill()
    assert not redis.running
    assert not redis.answers()
    redis.start()
    assert (redis.port, redis.call("GET", "key")) == (port, "value")
    assert redis.pid != pid
    redis.stop()
    assert not redis.running


def test_redis_with_a_password_and_a_replica(own_redis: StartRedis) -> None:
    first = own_redis(password="made up")
    second = own_redis(password="made up", replica_of=("127.0.0.1", first.port))
    assert "role:master" in first.call("INFO", "replication")
    assert "role:slave" in second.call("INFO", "replication")
    assert not redis_answers("127.0.0.1", first.port, "another")
    assert first.url == f"redis://:made%20up@127.0.0.1:{first.port}/0"


def test_a_paused_server_is_silent_until_it_goes_on(own_redis: StartRedis) -> None:
    redis = own_redis()
    redis.pause()
    assert not redis.answers()
    redis.resume()
    assert redis.answers()


def test_a_server_that_does_not_start_shows_its_log(own_redis: StartRedis) -> None:
    with pytest.raises(AssertionError, match="no-such-option"):
        own_redis("--no-such-option", "1")


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_rabbitmq_keeps_its_queues_over_kill_and_stop(own_rabbit: StartRabbit) -> None:
    rabbit = own_rabbit()
    rabbit.ctl("eval", 'rabbit_amqqueue:declare({resource, <<"/">>, queue, <<"q">>}, true, false, [], none, <<"x">>).')
    for end in (OwnServer.kill, OwnServer.stop):
        end(rabbit)
        assert not rabbit.answers()
        rabbit.start()
        assert rabbit.ctl("list_queues", "name") == "q"
