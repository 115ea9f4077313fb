# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What objects say of their readiness, and how long a wait goes on."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta, timezone

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import rollout
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError

NOW = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def ago(seconds):
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def deployment(replicas=2, generation=2, paused=False, conditions=(), **status):
    counts = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}
    return {
        "metadata": {"uid": "d", "generation": generation, "annotations": {rollout.REVISION: "7"}},
        "spec": {"replicas": replicas, "paused": paused, "selector": {"matchLabels": {"app": "a"}}},
        "status": {**counts, **status, "conditions": list(conditions)},
    }


def stateful_set(replicas=2, strategy=None, **status):
    counts = {
        "observedGeneration": 1,
        "replicas": 2,
        "readyReplicas": 2,
        "currentRevision": "r1",
        "updateRevision": "r1",
    }
    return {
        "metadata": {"uid": "s", "generation": 1},
        "spec": {"replicas": replicas, "updateStrategy": strategy or {}},
        "status": {**counts, **status},
    }


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (deployment(), ""),
        (deployment(generation=3), "controller has not seen"),
        (deployment(updatedReplicas=1), "1 of 2 pods are of the new revision"),
        (deployment(availableReplicas=1), "1 of 2 pods are available"),
    ],
)
def test_deployments(found, why):
    state = rollout.JUDGES["Deployment"]("Deployment/a", found)
    assert (why in state.why if why else not state.why) and state.done is not bool(why) and state.revision == "7"


def test_a_deployment_with_pods_of_an_older_revision_is_not_done():
    found = deployment()
    found["status"]["replicas"] = 3
    state = rollout.JUDGES["Deployment"]("Deployment/a", found)
    assert not state.done and "1 pods of an older revision" in state.why


def test_a_paused_deployment_is_fatal_only_while_there_is_something_left():
    assert rollout.JUDGES["Deployment"]("Deployment/a", deployment(paused=True)).done
    assert "paused" in rollout.JUDGES["Deployment"]("Deployment/a", deployment(paused=True, updatedReplicas=0)).fatal


@pytest.mark.parametrize(
    ("found", "done"),
    [
        (stateful_set(), True),
        (stateful_set(readyReplicas=1), False),
        (stateful_set(updateRevision="r2", updatedReplicas=1), False),
        (stateful_set(strategy={"rollingUpdate": {"partition": 1}}, updateRevision="r2", updatedReplicas=1), True),
        (stateful_set(strategy={"type": "OnDelete"}, updateRevision="r2", updatedReplicas=0), True),
        (stateful_set(observedGeneration=0), False),
        (stateful_set(replicas=1), False),
    ],
)
def test_stateful_sets(found, done):
    assert rollout.JUDGES["StatefulSet"]("StatefulSet/a", found).done is done


def test_jobs_and_claims():
    def job(conditions=(), **spec):
        return {"metadata": {"uid": "j"}, "spec": spec, "status": {"conditions": list(conditions), "failed": 2}}

    assert rollout.JUDGES["Job"]("Job/a", job([{"type": "Complete", "status": "True"}])).done
    failed = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too slow"}
    assert "DeadlineExceeded: too slow" in rollout.JUDGES["Job"]("Job/a", job([failed])).fatal
    assert "2 attempts failed" in rollout.JUDGES["Job"]("Job/a", job()).why
    assert "suspended" in rollout.JUDGES["Job"]("Job/a", job(suspend=True)).fatal

    def claim(phase):
        return {"metadata": {}, "spec": {"volumeName": "pv-1"}, "status": {"phase": phase}}

    assert rollout.JUDGES["PersistentVolumeClaim"]("PersistentVolumeClaim/a", claim("Bound")).done
    assert "pv-1 is gone" in rollout.JUDGES["PersistentVolumeClaim"]("PersistentVolumeClaim/a", claim("Lost")).fatal


def pod(name="p1", restarts=0, waiting=None, ended=None, ready="False", owner="rs"):
    container = {"name": "c", "ready": False, "restartCount": restarts, "state": {"waiting": waiting or {}}}
    if ended:
        container["lastState"] = {"terminated": ended}
    return {
        "metadata": {"name": name, "uid": name, "ownerReferences": [{"uid": owner}], "labels": {}},
        "spec": {"containers": [{"name": "c"}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [container],
        },
    }


class Server:
    """Answers a script: each look at the Deployment takes the next of its states, the last one for ever."""

    def __init__(self, *states, pods=(), events=(), log="", secrets=()):
        self.states, self.pods, self.events, self.log, self.secrets = (
            list(states),
            list(pods),
            events,
            log,
            dict(secrets),
        )
        self.now, self.time, self.looks = NOW, 0.0, 0

    def sleep(self, seconds):
        self.time += seconds

    def find(self, path, rights="", **query):
        if "/secrets/" in path:
            found = self.secrets[path.rpartition("/")[2]]
            if isinstance(found, Exception):
                raise found
            return {"data": {key: base64.b64encode(text.encode()).decode() for key, text in found.items()}}
        self.looks += 1
        found = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(found, Exception):
            raise found
        return found

    def get(self, path, rights="", **query):
        if path.endswith("/replicasets"):
            metadata = {"uid": "rs", "annotations": {rollout.REVISION: "7"}, "ownerReferences": [{"uid": "d"}]}
            return {"items": [{"metadata": metadata}]}
        return {"items": list(self.events if path.endswith("/events") else self.pods)}

    def text(self, path, rights="", **query):
        return self.log


def wait(server, *workloads, timeout=100, **options):
    names = workloads or ("Deployment/a",)
    return rollout.wait_for(
        server, "ns", names, timeout, sleep=server.sleep, clock=lambda: server.time, poll=1, **options
    )


def broken(status=0):
    return ClusterError("GET /x", "connection reset", status=status)


def test_an_api_server_that_does_not_answer_for_a_while_is_waited_for():
    server = Server(deployment(availableReplicas=0), broken(), broken(503), broken(429), deployment())
    (state,) = wait(server)
    assert state.done and server.looks == 5 and state.sentence().startswith("a 2/2 ready in ")


def test_a_refusal_is_not_waited_for():
    with pytest.raises(ClusterError, match="connection reset"):
        wait(Server(broken(403)))


def test_an_api_server_that_never_answered_is_given_up_soon_and_one_that_did_at_the_end():
    server = Server(broken())
    with pytest.raises(ClusterError):
        wait(server, timeout=1000)
    assert server.time < 60
    server = Server(deployment(availableReplicas=1), broken())
    with pytest.raises(
        rollout.RolloutFailed, match=r"doesn't answer .*the last time it did: 1 of 2 pods are available"
    ):
        wait(server, timeout=50)
    assert server.time > 45


def test_a_pull_failure_has_its_time_and_another_pod_a_time_of_its_own():
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    server = Server(deployment(availableReplicas=0), pods=[pod(waiting=waiting)])
    with pytest.raises(
        rollout.RolloutFailed, match=r"pod p1: container c: ImagePullBackOff: no such image \(for 1\d s\)"
    ):
        wait(server, pull_failure_after=10)
    assert 10 <= server.time < 20
    # Pulled in the end: nothing to complain of.
    server = Server(*[deployment(availableReplicas=0)] * 4, deployment(), pods=[pod(waiting=waiting)])
    assert wait(server, pull_failure_after=10)[0].done


def test_pods_of_another_revision_are_not_judged():
    waiting = {"reason": "ImagePullBackOff"}
    server = Server(deployment(availableReplicas=0), pods=[pod(waiting=waiting, owner="older")])
    with pytest.raises(rollout.RolloutFailed, match=r"not ready after .*: 0 of 2 pods are available"):
        wait(server, timeout=20, pull_failure_after=1)


@pytest.mark.parametrize(("restarts", "finished", "at_once"), [(3, 5, True), (2, 5, False), (9, 3600, False)])
def test_a_crash_is_fatal_after_some_restarts_unless_it_was_long_ago(restarts, finished, at_once):
    ended = {"exitCode": 1, "reason": "Error", "finishedAt": ago(finished)}
    crashing = pod(restarts=restarts, waiting={"reason": "CrashLoopBackOff"}, ended=ended)
    server = Server(deployment(availableReplicas=0), pods=[crashing])
    with pytest.raises(rollout.RolloutFailed, match="ended with Error, exit code 1"):
        wait(server)
    assert (server.time == 0) is at_once


def test_a_deadline_that_passed_before_counts_no_more():
    def late(seconds):
        return {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "lastUpdateTime": ago(seconds)}

    with pytest.raises(rollout.RolloutFailed, match="ProgressDeadlineExceeded"):
        wait(Server(deployment(availableReplicas=1, conditions=[late(1)])))
    assert wait(Server(deployment(availableReplicas=1, conditions=[late(999)]), deployment()))[0].done


def test_the_error_tells_events_and_a_log_without_secrets():
    ended = {"exitCode": 2, "reason": "Error", "finishedAt": ago(1)}
    crashing = pod(restarts=5, waiting={"reason": "CrashLoopBackOff"}, ended=ended)
    reference = {"secretKeyRef": {"name": "db", "key": "password"}}
    crashing["spec"]["containers"][0]["env"] = [{"name": "PASSWORD", "valueFrom": reference}]
    crashing["spec"]["volumes"] = [{"name": "v", "secret": {"secretName": "key"}}]
    events = [
        {"metadata": {}, "reason": f"R{number}", "message": "m", "lastTimestamp": ago(40 - number), "count": 4}
        for number in range(5)
    ]
    log = "password is pa/ss-word, in a URL pa%2Fss-word\nfirst line of the key"
    secrets = {"db": {"password": "pa/ss-word"}, "key": {"key.json": "first line of the key\nsecond line"}}
    server = Server(deployment(availableReplicas=0), pods=[crashing], events=events, log=log, secrets=secrets)
    with pytest.raises(rollout.RolloutFailed) as caught:
        wait(server)
    text = str(caught.value)
    assert "R4 (4 times, 36 s ago): m" in text and "R2" in text and "R1" not in text
    assert (
        "password is ********, in a URL ********" in text
        and "key" not in text.partition("Last lines")[2].partition(". Put")[0]
    )
    assert caught.value.states[0].shown()["trouble"]
    server.secrets["key"] = broken(403)
    with pytest.raises(rollout.RolloutFailed, match="Its log is not shown") as caught:
        wait(server)
    assert "password is" not in str(caught.value)


def test_public_parts_of_a_secret_stay_readable():
    """The database's user is called as LiteLLM's workloads are."""
    one = pod("litellm-backend-1")
    reference = {"secretKeyRef": {"name": "db", "key": "username"}}
    one["spec"]["containers"][0]["env"] = [{"name": "POSTGRES_USER", "valueFrom": reference}]
    values = {"username": "litellm", "database": "litemaas_db", "host": "db.example.com", "password": "pa/ss-word"}
    server = Server(deployment(), secrets={"db": values | {"short": "on"}})
    hidden = rollout.hidden_texts(server, "lab", one)
    assert hidden == ["pa%2Fss-word", "pa/ss-word"]
    text = "pod litellm-backend-1 can't reach litemaas_db at db.example.com as litellm on pa/ss-word"
    assert rollout.redact(text, hidden) == text.replace("pa/ss-word", "********")


def test_looking_once_raises_nothing_about_what_it_sees():
    server = Server(deployment(paused=True, availableReplicas=0))
    (state,) = wait(server, wait=False)
    assert not state.done and state.fatal and server.time == 0


@pytest.mark.parametrize("wrong", ["Pod/a", "Deployment", "Deployment/", "Deployment/a/b"])
def test_a_workload_that_is_none(wrong):
    with pytest.raises(ValueError, match="is no Kind/name"):
        wait(Server(deployment()), wrong)


def test_selectors():
    expressions = [
        {"key": "a", "operator": "In", "values": ["x", "y"]},
        {"key": "b", "operator": "NotIn", "values": ["z"]},
        {"key": "c", "operator": "Exists"},
        {"key": "d", "operator": "DoesNotExist"},
    ]
    text = rollout.selector_text({"matchLabels": {"app": "q"}, "matchExpressions": expressions})
    assert text == "app=q,a in (x,y),b notin (z),c,!d"


def route(*entries, host="a.example.com"):
    """Each entry: the router, its word on ``Admitted`` with a reason, and the host that this is of."""
    said = [
        {
            "routerName": router,
            "host": of,
            "conditions": [{"type": "Admitted", "status": status, "reason": reason, "message": "says the router"}],
        }
        for router, status, reason, of in entries
    ]
    return {"metadata": {"uid": "r"}, "spec": {"host": host}, "status": {"ingress": said}}


YES = ("default", "True", "", "a.example.com")
CLAIMED = ("default", "False", "HostAlreadyClaimed", "a.example.com")


def test_a_route_that_one_router_admits_is_ready():
    (state,) = wait(Server(route(("shard", "False", "NoHost", "a.example.com"), YES)), "Route/a", timeout=1)
    assert state.done and not state.note and state.sentence() == "Route/a admitted"


def test_a_route_whose_name_is_another_ones_is_an_error_that_names_it_after_the_router_had_its_time():
    server = Server(route(CLAIMED))
    with pytest.raises(
        rollout.RolloutFailed, match=r"Wait for Route/a in ns: .*HostAlreadyClaimed: says the router"
    ) as caught:
        wait(server, "Route/a", router_answers_after=10)
    assert "Another Route has the name a.example.com" in str(caught.value) and 10 <= server.time < 13
    # The other one is gone, and the router comes to look again.
    assert wait(Server(*[route(CLAIMED)] * 3, route(YES)), "Route/a", router_answers_after=10)[0].done


@pytest.mark.parametrize("status", ["Unknown", ""])
def test_a_router_that_has_not_decided_yet_refuses_nothing(status):
    (state,) = wait(Server(route(("default", status, "", "a.example.com"))), "Route/a", router_answers_after=10)
    assert state.done and state.note.endswith("whether it is served is not known")


def test_a_route_that_is_being_deleted_is_not_waited_for():
    going = route(CLAIMED)
    going["metadata"]["deletionTimestamp"] = ago(1)
    with pytest.raises(rollout.RolloutFailed, match="Route/a in ns: is being deleted"):
        wait(server := Server(going), "Route/a", router_answers_after=10)
    assert server.time < 1


def test_what_a_router_said_of_an_earlier_name_counts_for_nothing():
    earlier = tuple("b.example.com" if part == "a.example.com" else part for part in YES)
    (state,) = wait(server := Server(route(earlier)), "Route/a", router_answers_after=10)
    assert state.done and state.note and server.time >= 10


def test_a_router_that_says_nothing_is_waited_for_a_while_and_named():
    (state,) = wait(server := Server(route()), "Route/a", router_answers_after=10)
    assert state.done and 10 <= server.time < 13
    assert state.shown()["note"] == "Route/a: no router has said that it admits it: whether it is served is not known"
    # Silence after a rejection has its time anew.
    (state,) = wait(server := Server(*[route(CLAIMED)] * 4, route()), "Route/a", router_answers_after=10)
    assert state.note and server.time > 12
