"""The example's HeavyQueue as users apply it."""

from __future__ import annotations

from pathlib import Path

import yaml

from heavylift.spec import HeavyQueue, settings

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "reports"


def test_the_queue_is_valid_and_means_what_its_comments_say() -> None:
    """A claim and a HeavyQueue that uses it, in one file and one namespace."""
    claim, obj = yaml.safe_load_all((EXAMPLE / "queue.yaml").read_text())
    queue = HeavyQueue.parse(obj)
    known = settings(queue)

    assert (queue.queue, queue.container, queue.namespace) == ("reports", "main", claim["metadata"]["namespace"])
    assert known["concurrencyMax"] == 6
    assert known["defaults"]["maxAttempts"] == 2
    assert known["result"]["policy"] == "Required"
    pod = obj["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert pod["containers"][0]["command"] == ["heavylift", "run", "reports.tasks"]
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "512Mi"}


def test_its_pods_meet_the_restricted_pod_security_standard() -> None:
    """Nobody runs as root, gains rights or writes to the image."""
    obj = list(yaml.safe_load_all((EXAMPLE / "queue.yaml").read_text()))[1]
    pod = obj["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    container = pod["containers"][0]["securityContext"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]} <= {"persistentVolumeClaim", "emptyDir"}
