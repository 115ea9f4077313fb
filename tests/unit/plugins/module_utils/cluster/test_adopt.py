# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose a field is when an object has been taken over."""

from __future__ import annotations

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import adopt

MAKER = "OpenAPI-Generator"
VERTEX = 'k:{"name":"vertex-sa-key"}'
CREDENTIALS = 'k:{"name":"GOOGLE_APPLICATION_CREDENTIALS"}'


def entry(manager, fields, operation="Update", **more):
    return {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsV1": fields, **more}


def found(*entries, **spec):
    return {
        "apiVersion": "apps/v1",
        "metadata": {"managedFields": list(entries)},
        "spec": {"template": {"spec": spec}},
    }


def test_makers_entries_become_one_of_ours_and_others_stay():
    other = entry("oc", {"f:spec": {"f:b": {}}})
    status = entry(MAKER, {"f:status": {}}, subresource="status")
    older = entry(MAKER, {"f:spec": {}}, apiVersion="extensions/v1beta1")
    one = entry(MAKER, {"f:spec": {"f:a": {}, "f:c": {".": {}}}})
    two = entry("kubectl-create", {"f:spec": {"f:c": {"f:d": {}}}})
    ours, *rest = adopt.taken_over(found(one, other, two, status, older), adopt.MAKERS)
    assert (ours["manager"], ours["operation"]) == ("rhpds.litemaas", "Apply")
    assert ours["fieldsV1"] == {"f:spec": {"f:a": {}, "f:c": {".": {}, "f:d": {}}}}
    assert rest == [other, status, older]


def test_replicas_and_mounted_secrets_of_others_stay_with_their_maker():
    inner = {"f:volumes": {".": {}, VERTEX: {"f:secret": {}}, 'k:{"name":"tmp"}': {}}}
    container = {
        "f:image": {},
        "f:env": {CREDENTIALS: {"f:value": {}}, 'k:{"name":"A"}': {"f:value": {}}},
        "f:volumeMounts": {'k:{"mountPath":"/etc/v"}': {"f:name": {}}, 'k:{"mountPath":"/tmp"}': {}},
    }
    inner["f:containers"] = {'k:{"name":"litellm"}': container}
    fields = {"f:spec": {"f:replicas": {}, "f:template": {"f:spec": inner}}}
    thing = found(
        entry(MAKER, fields),
        volumes=[
            {"name": "vertex-sa-key", "secret": {"secretName": "vertex-ai-sa-key"}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "own", "secret": {"secretName": "litellm-secret"}},
        ],
        containers=[
            {"volumeMounts": [{"name": "vertex-sa-key", "mountPath": "/etc/v"}, {"name": "tmp", "mountPath": "/tmp"}]}
        ],
    )
    ours, kept = adopt.taken_over(thing, [MAKER])
    assert kept["manager"] == MAKER
    spec = kept["fieldsV1"]["f:spec"]
    assert spec["f:replicas"] == {} and spec["f:template"]["f:spec"]["f:volumes"] == {VERTEX: {"f:secret": {}}}
    stays = spec["f:template"]["f:spec"]["f:containers"]['k:{"name":"litellm"}']
    assert stays == {
        "f:env": {CREDENTIALS: {"f:value": {}}},
        "f:volumeMounts": {'k:{"mountPath":"/etc/v"}': {"f:name": {}}},
    }
    assert adopt.union(ours["fieldsV1"], kept["fieldsV1"]) == fields


def test_what_we_have_applied_already_and_what_nobody_known_made_is_left_alone():
    mine = entry("rhpds.litemaas", {"f:spec": {}}, "Apply")
    assert adopt.taken_over(found(mine, entry(MAKER, {"f:spec": {"f:a": {}}})), [MAKER]) is None
    assert adopt.taken_over(found(entry("oc", {"f:spec": {"f:a": {}}})), [MAKER]) is None
    assert adopt.taken_over({"apiVersion": "v1", "metadata": {}}, [MAKER]) is None
